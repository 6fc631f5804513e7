-- One training run's trend (statistics.md, lens 3), at the primary settings and for metrics that have none. One row a cell
-- and run.
SELECT c.*, t.* EXCLUDE (cell_id)
FROM stg_trends AS t
JOIN stg_shown USING (cell_id)
JOIN stg_cells AS c USING (cell_id)
ORDER BY t.cell_id, t.run_id
