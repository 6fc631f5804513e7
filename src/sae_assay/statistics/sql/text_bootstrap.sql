-- What would new rows or text do that a reseed on fixed ones cannot show? Rows resampled with replacement, beside the reseeded
-- sources that leave the rows alone and the source that redraws them. Grain: cell columns, part.
WITH cells AS (
    SELECT DISTINCT cell_id, substrate, metric, component, hp_name, hp_value, mode, task_kind FROM stg_anatomy_scores
),

starts AS (
    SELECT v.cell_id, p.block, v.sae_id, v.value
    FROM points AS p
    JOIN stg_anatomy_points AS v ON v.substrate = p.substrate AND v.eval_seed = p.eval_seed
    WHERE p.moved = 'start'
),

moved AS (
    SELECT v.cell_id, p.block, avg(v.value - s.value ORDER BY v.sae_id, v.eval_seed) AS change
    FROM points AS p
    JOIN stg_anatomy_points AS v ON v.substrate = p.substrate AND v.eval_seed = p.eval_seed
    JOIN starts AS s ON s.cell_id = v.cell_id AND s.block = p.block AND s.sae_id = v.sae_id
    WHERE p.moved = 'resample'
    GROUP BY ALL
),

biases AS (
    SELECT cell_id, avg(change ORDER BY block) AS bias, exact_sd(change, block) / sqrt(count(*)) AS bias_se
    FROM moved
    GROUP BY ALL
),

counted AS (
    SELECT cell_id, n_saes, n_blocks, df + n_blocks AS n_resamples FROM stg_anatomy_squares WHERE source = 'resample'
)

SELECT
    c.substrate, c.metric, c.component, c.hp_name, c.hp_value, c.mode, c.task_kind, p.part,
    n.n_saes, coalesce(n.n_blocks, 0) AS n_blocks, coalesce(n.n_resamples, 0) AS n_resamples,
    sqrt(r.variance) AS resampled, sqrt(r.low) AS resampled_low, sqrt(r.high) AS resampled_high,
    sqrt(f.variance) AS reseeded, sqrt(f.low) AS reseeded_low, sqrt(f.high) AS reseeded_high,
    sqrt(d.variance / (1 - coalesce(t.share, 0))) AS new_rows,
    sqrt(d.low / (1 - coalesce(t.share, 0))) AS new_rows_low,
    sqrt(d.high / (1 - coalesce(t.share, 0))) AS new_rows_high,
    coalesce(t.share, 0) AS bank_share,
    ratio(sqrt(r.variance), sqrt(f.variance)) AS resampled_to_reseeded,
    b.bias, b.bias_se,
    CASE
        WHEN n.n_blocks IS NULL THEN 'no block with two resamplings in which every SAE has a score'
        WHEN f.variance IS NULL THEN 'no source that leaves the rows alone was reseeded in two blocks'
        WHEN f.variance = 0 THEN 'on fixed rows no reseed moved a score: no ratio'
        WHEN d.variance IS NULL THEN 'the rows were not redrawn: no new_rows'
    END AS reason
FROM cells AS c
CROSS JOIN (VALUES ('common'), ('relative')) AS p (part)
LEFT JOIN counted AS n USING (cell_id)
LEFT JOIN biases AS b USING (cell_id)
LEFT JOIN text_shares AS t USING (substrate)
LEFT JOIN run_anatomy AS r ON r.cell_id = c.cell_id AND r.part = p.part AND r.source = 'resample'
LEFT JOIN run_anatomy AS f ON f.cell_id = c.cell_id AND f.part = p.part AND f.source = 'fixed rows'
LEFT JOIN run_anatomy AS d ON d.cell_id = c.cell_id AND d.part = p.part AND d.source = 'data'
ORDER BY c.cell_id, p.part
