-- Matched-step pairs of training runs at the primary settings (statistics.md, lens 3). One row a cell, step and pair.
SELECT
    c.*, step, run_a, run_b, n_seeds, difference, t, CAST(df AS DOUBLE) AS df, p, p_bh,
    difference_mcc, se_mcc, difference_f1, se_f1
FROM stg_pairs
JOIN stg_primary USING (cell_id)
JOIN stg_cells AS c USING (cell_id)
ORDER BY cell_id, step, run_a, run_b
