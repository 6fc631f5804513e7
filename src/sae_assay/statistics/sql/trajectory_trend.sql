-- One training run's trend (statistics.md, lens 3). One row a cell and run.
SELECT c.*, t.* EXCLUDE (cell_id)
FROM stg_trends AS t
JOIN stg_cells AS c USING (cell_id)
ORDER BY t.cell_id, t.run_id
