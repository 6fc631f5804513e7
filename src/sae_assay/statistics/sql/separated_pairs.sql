-- Share of matched-step pairs that the metric separates (statistics.md, lens 3). One row a cell and step, and one a cell.
WITH counted AS (
    SELECT
        cell_id, step, count(p) AS n_pairs, count(*) FILTER (p < 0.05) AS n_significant,
        count(*) FILTER (p_bh < 0.05) AS n_significant_bh
    FROM stg_pairs
    GROUP BY GROUPING SETS ((cell_id, step), (cell_id))
),

runs AS (
    SELECT cell_id, count(DISTINCT run_id) AS n_runs FROM stg_snapshots GROUP BY cell_id
),

cells AS (
    SELECT cell_id, step FROM counted
    UNION
    SELECT cell_id, NULL FROM stg_compared WHERE comparison = 'trajectory'
)

SELECT
    c.*, cells.step, coalesce(n_runs, 0) AS n_runs, coalesce(n_pairs, 0) AS n_pairs,
    CASE WHEN n_pairs > 0 THEN n_significant END AS n_significant,
    CASE WHEN n_pairs > 0 THEN n_significant / n_pairs END AS share,
    CASE WHEN cells.step IS NULL THEN low END AS share_low,
    CASE WHEN cells.step IS NULL THEN high END AS share_high,
    CAST(0.05 AS DOUBLE) AS null_share,
    CASE WHEN n_pairs > 0 THEN n_significant_bh END AS n_significant_bh,
    CASE WHEN coalesce(n_pairs, 0) = 0 THEN 'no pair of runs with reseed noise at a matched step' END AS reason
FROM cells
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN counted ON counted.cell_id = cells.cell_id AND counted.step IS NOT DISTINCT FROM cells.step
LEFT JOIN runs ON runs.cell_id = cells.cell_id
LEFT JOIN run_bootstrap AS b ON b.cell_id = cells.cell_id AND b.question = 'separated'
ORDER BY cells.cell_id, cells.step NULLS FIRST
