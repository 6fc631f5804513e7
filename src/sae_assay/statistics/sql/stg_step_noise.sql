-- Relative noise of the runs at one matched step, from their own run x seed table: early and late snapshots differ in noise.
-- Grain: cell_id, step.
WITH scores AS (
    SELECT s.cell_id, s.step, s.run_id, t.eval_seed, t.value
    FROM stg_snapshots AS s
    JOIN stg_two_way AS t ON t.comparison = 'trajectory' AND t.cell_id = s.cell_id AND t.sae_id = s.sae_id
),

run_means AS (
    SELECT cell_id, step, run_id, avg(value ORDER BY eval_seed) AS run_mean FROM scores GROUP BY ALL
),

seed_means AS (
    SELECT cell_id, step, eval_seed, avg(value ORDER BY run_id) AS seed_mean FROM scores GROUP BY ALL
),

grand AS (
    SELECT
        cell_id, step, count(DISTINCT run_id) AS n_runs, count(DISTINCT eval_seed) AS n_seeds,
        avg(value ORDER BY run_id, eval_seed) AS mean,
        1e-24 * sum(value * value ORDER BY run_id, eval_seed) AS rounding
    FROM scores
    GROUP BY ALL
),

squares AS (
    SELECT
        cell_id, step, n_runs, n_seeds, rounding,
        sum((value - run_mean - seed_mean + mean) ^ 2 ORDER BY run_id, eval_seed) AS ss
    FROM scores
    JOIN run_means USING (cell_id, step, run_id)
    JOIN seed_means USING (cell_id, step, eval_seed)
    JOIN grand USING (cell_id, step)
    GROUP BY ALL
)

SELECT
    cell_id, step, n_runs, n_seeds, (n_runs - 1) * (n_seeds - 1) AS df,
    CASE WHEN n_runs > 1 AND n_seeds > 1 THEN sqrt(above(ss, rounding) / ((n_runs - 1) * (n_seeds - 1))) END AS sigma_e
FROM squares
ORDER BY cell_id, step
