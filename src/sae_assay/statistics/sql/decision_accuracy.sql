-- Does the metric at one seed order a matched-step pair as the truth does (statistics.md, lens 3)? One row a cell and truth.
WITH questions AS (
    SELECT cell_id, truth
    FROM stg_compared
    JOIN stg_cells USING (cell_id)
    CROSS JOIN (VALUES ('mcc'), ('f1'), ('self')) AS t (truth)
    WHERE comparison = 'trajectory' AND NOT (metric = 'ground_truth' AND component = truth)
),

runs AS (
    SELECT cell_id, count(DISTINCT run_id) AS n_runs FROM stg_snapshots GROUP BY cell_id
),

worlds AS (
    SELECT DISTINCT substrate FROM stg_cells WHERE metric = 'ground_truth'
),

answers AS (
    SELECT
        cell_id, question AS truth, sum(n_pairs) AS n_pairs, sum(n) AS n_decisions,
        sum(score ORDER BY run_a, run_b) / sum(n) AS accuracy
    FROM stg_decisions
    WHERE question <> 'separated'
    GROUP BY ALL
)

SELECT
    c.*, truth, coalesce(n_runs, 0) AS n_runs,
    CAST(coalesce(n_pairs, 0) AS BIGINT) AS n_pairs,
    CAST(coalesce(n_decisions, 0) AS BIGINT) AS n_decisions,
    accuracy, low, high,
    CASE
        WHEN accuracy IS NULL AND coalesce(n_runs, 0) < 2 THEN 'fewer than two training runs'
        WHEN accuracy IS NULL AND truth = 'self' THEN 'one evaluation seed'
        WHEN accuracy IS NULL AND worlds.substrate IS NULL THEN 'no ground truth here'
        WHEN accuracy IS NULL THEN 'no matched-step pair whose truth differs by more than 2 SE'
        WHEN low IS NULL THEN 'fewer than three training runs: no interval'
    END AS reason
FROM questions
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN worlds USING (substrate)
LEFT JOIN runs USING (cell_id)
LEFT JOIN answers USING (cell_id, truth)
LEFT JOIN run_bootstrap AS b ON b.cell_id = questions.cell_id AND b.question = truth
ORDER BY questions.cell_id, truth
