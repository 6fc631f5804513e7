-- Cells of metrics that have `in` tasks. Grain: cell_id.
SELECT c.cell_id
FROM stg_cells AS c
JOIN (SELECT DISTINCT substrate, metric FROM stg_cells WHERE task_kind = 'in') USING (substrate, metric)
ORDER BY c.cell_id
