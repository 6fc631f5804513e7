-- One point a snapshot, with a reseed band and the truth, at the primary settings and for metrics that have none. One row
-- a cell, run and step.
SELECT
    c.*, s.run_id, s.sae_id, s.arch, s.target_l0, s.training_seed, s.step, s.tokens, s.is_final,
    g.n_seeds, g.n_tasks, s.value,
    s.value - t_quantile(0.975, df) * sigma_e AS band_low,
    s.value + t_quantile(0.975, df) * sigma_e AS band_high,
    sigma_e, CAST(df AS DOUBLE) AS df, s.mcc, s.f1,
    CASE
        WHEN s.value IS NOT NULL THEN NULL
        WHEN g.n_tasks = 0 THEN 'no task is ok for every snapshot at every seed'
        ELSE 'the snapshot has no number'
    END AS reason
FROM stg_snapshots AS s
JOIN stg_shown USING (cell_id)
JOIN stg_cells AS c USING (cell_id)
JOIN stg_compared AS g ON g.comparison = 'trajectory' AND g.cell_id = s.cell_id
LEFT JOIN stg_step_noise AS n ON n.cell_id = s.cell_id AND n.step = s.step
ORDER BY s.cell_id, s.run_id, s.step
