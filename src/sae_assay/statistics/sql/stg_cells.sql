-- What one statistic is about. Grain: cell_id.
SELECT DISTINCT cell_id, substrate, metric, component, hp_name, hp_value, mode, task_kind
FROM stg_scores
ORDER BY cell_id
