-- What moving a snapshot's threshold to the nominal L0 does to its score, at the primary settings and for metrics that have
-- none: the same tasks and seeds in both forms, averaged within a run. t interval, unit = run. One row a cell and step.
WITH forms AS (
    SELECT substrate, sae_id, base_sae_id, split_part(base_sae_id, '.step_', 1) AS run_id, step
    FROM saes
    WHERE panel = 'trajectory' AND base_sae_id IS NOT NULL
),

pairs AS (
    SELECT again.cell_id, f.step, f.run_id, again.eval_seed, again.task, base.value AS trained, again.value AS recalibrated
    FROM forms AS f
    JOIN stg_scores AS again ON again.substrate = f.substrate AND again.sae_id = f.sae_id
    JOIN stg_scores AS base
        ON base.cell_id = again.cell_id AND base.sae_id = f.base_sae_id
        AND base.eval_seed = again.eval_seed AND base.task = again.task
    WHERE again.is_ok AND base.is_ok
),

runs AS (
    SELECT
        cell_id, step, run_id,
        avg(trained ORDER BY eval_seed, task) AS trained,
        avg(recalibrated ORDER BY eval_seed, task) AS recalibrated,
        avg(recalibrated - trained ORDER BY eval_seed, task) AS difference
    FROM pairs
    GROUP BY ALL
),

steps AS (
    SELECT
        cell_id, step, count(*) AS n_runs,
        avg(trained ORDER BY run_id) AS trained,
        avg(recalibrated ORDER BY run_id) AS recalibrated,
        avg(difference ORDER BY run_id) AS difference,
        stddev_samp(difference ORDER BY run_id) AS sd
    FROM runs
    GROUP BY ALL
)

SELECT
    c.*, step, n_runs, trained, recalibrated, difference,
    difference - t_quantile(0.975, n_runs - 1) * sd / sqrt(n_runs) AS low,
    difference + t_quantile(0.975, n_runs - 1) * sd / sqrt(n_runs) AS high,
    CASE WHEN n_runs = 1 THEN 'one training run: no interval' END AS reason
FROM steps
JOIN stg_shown USING (cell_id)
JOIN stg_cells AS c USING (cell_id)
ORDER BY cell_id, step
