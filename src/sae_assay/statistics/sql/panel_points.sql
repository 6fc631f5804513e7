-- One point a trained, finished SAE or control, at the primary settings and for metrics that have none. One row a cell and
-- SAE.
SELECT
    c.*, p.sae_id, p.arch, p.target_l0, p.training_seed,
    p.control IS NOT NULL AS is_control, p.control, p.base_sae_id, p.n_seeds, p.n_tasks, p.value,
    p.value - t_quantile(0.975, df_interaction) * sigma_e / sqrt(p.n_seeds) AS low,
    p.value + t_quantile(0.975, df_interaction) * sigma_e / sqrt(p.n_seeds) AS high,
    mcc, f1, l0, explained_variance, p.reason
FROM stg_panel_points AS p
JOIN stg_shown USING (cell_id)
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN stg_anova AS a ON a.comparison = 'panel' AND a.cell_id = p.cell_id
LEFT JOIN stg_truths AS t ON t.comparison = 'panel' AND t.substrate = p.substrate AND t.sae_id = p.sae_id
ORDER BY p.cell_id, p.sae_id
