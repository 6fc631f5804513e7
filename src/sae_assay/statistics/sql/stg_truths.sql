-- The ground truth beside every SAE: means over the seeds of its comparison. Grain: comparison, substrate, sae_id.
WITH panel_truths AS (
    SELECT 'panel' AS comparison, substrate, sae_id, component, p.value
    FROM stg_panel_points AS p
    JOIN stg_cells USING (cell_id, substrate)
    WHERE metric = 'ground_truth'
),

trajectory_truths AS (
    SELECT comparison, substrate, sae_id, component, value
    FROM stg_sae_means
    JOIN stg_cells USING (cell_id)
    WHERE metric = 'ground_truth' AND comparison = 'trajectory'
)

SELECT
    comparison, substrate, sae_id,
    max(CASE WHEN component = 'mcc' THEN value END) AS mcc,
    max(CASE WHEN component = 'f1' THEN value END) AS f1,
    max(CASE WHEN component = 'l0' THEN value END) AS l0,
    max(CASE WHEN component = 'explained_variance' THEN value END) AS explained_variance
FROM (SELECT * FROM panel_truths UNION ALL SELECT * FROM trajectory_truths)
GROUP BY ALL
ORDER BY comparison, substrate, sae_id
