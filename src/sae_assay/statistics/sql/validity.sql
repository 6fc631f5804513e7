-- Correlation of a metric with the truth over trained, finished SAEs (statistics.md, lens 2). One row a cell and truth.
WITH truth_cells AS (
    SELECT cell_id AS truth_cell, substrate, component AS truth
    FROM stg_cells
    WHERE metric = 'ground_truth' AND component IN ('mcc', 'f1')
),

compared AS (
    SELECT cell_id, substrate, truth_cell, truth
    FROM stg_compared
    JOIN stg_cells USING (cell_id)
    JOIN truth_cells USING (substrate)
    WHERE comparison = 'panel' AND cell_id <> truth_cell
),

points AS (
    SELECT c.cell_id, c.truth, m.sae_id, m.value AS x, t.value AS y, sae.arch, sae.target_l0
    FROM compared AS c
    JOIN stg_sae_means AS m USING (cell_id)
    JOIN stg_sae_means AS t ON t.cell_id = c.truth_cell AND t.sae_id = m.sae_id AND t.comparison = m.comparison
    JOIN saes AS sae ON sae.substrate = c.substrate AND sae.sae_id = m.sae_id
    WHERE m.comparison = 'panel'
),

ranked AS (
    SELECT
        *,
        mid_rank(rank() OVER (PARTITION BY cell_id, truth ORDER BY x), count(*) OVER (PARTITION BY cell_id, truth, x)) AS rank_x,
        mid_rank(rank() OVER (PARTITION BY cell_id, truth ORDER BY y), count(*) OVER (PARTITION BY cell_id, truth, y)) AS rank_y
    FROM points
),

plain AS (
    SELECT
        cell_id, truth, count(*) AS n_saes, max(x) - min(x) AS metric_range, max(y) - min(y) AS truth_range,
        CASE WHEN metric_range > 0 AND truth_range > 0 THEN corr(rank_x, rank_y ORDER BY sae_id) END AS spearman
    FROM ranked
    GROUP BY ALL
),

concordance AS (
    SELECT
        a.cell_id, a.truth,
        ratio(
            sum(sign(a.x - b.x) * sign(a.y - b.y)),
            sqrt(CAST(count(*) FILTER (a.x <> b.x) AS DOUBLE) * count(*) FILTER (a.y <> b.y))
        ) AS kendall
    FROM points AS a
    JOIN points AS b ON a.cell_id = b.cell_id AND a.truth = b.truth AND a.sae_id < b.sae_id
    GROUP BY ALL
),

-- training seeds of one architecture and L0 share that cell's own effect: the cell is the unit
design AS (
    SELECT
        cell_id, truth, arch, target_l0, avg(x ORDER BY sae_id) AS x, avg(y ORDER BY sae_id) AS y, 1 / count(*) AS share
    FROM points
    WHERE arch IS NOT NULL AND target_l0 IS NOT NULL
    GROUP BY ALL
),

ranked_design AS (
    SELECT
        *,
        mid_rank(rank() OVER (PARTITION BY cell_id, truth ORDER BY x), count(*) OVER (PARTITION BY cell_id, truth, x)) AS rank_x,
        mid_rank(rank() OVER (PARTITION BY cell_id, truth ORDER BY y), count(*) OVER (PARTITION BY cell_id, truth, y)) AS rank_y
    FROM design
),

fitted AS (
    SELECT
        cell_id, truth, count(*) AS n_cells, avg(share ORDER BY arch, target_l0) AS mean_share,
        max(x) > min(x) AND max(y) > min(y) AS varies,
        list(arch ORDER BY arch, target_l0) AS archs,
        list(target_l0 ORDER BY arch, target_l0) AS l0s,
        residuals(archs, l0s, list(x ORDER BY arch, target_l0)) AS residual_x,
        residuals(archs, l0s, list(y ORDER BY arch, target_l0)) AS residual_y,
        residuals(archs, l0s, list(rank_x ORDER BY arch, target_l0)) AS residual_rank_x,
        residuals(archs, l0s, list(rank_y ORDER BY arch, target_l0)) AS residual_rank_y
    FROM ranked_design
    GROUP BY ALL
),

residual_parts AS (
    SELECT
        cell_id, truth, n_cells, mean_share,
        residual_rank(archs, l0s) AS free,
        CASE WHEN varies THEN cosine(residual_x, residual_y) END AS residual,
        CASE WHEN varies THEN cosine(residual_rank_x, residual_rank_y) END AS residual_rank,
        list_inner_product(residual_x, residual_x) / nullif(free, 0) AS residual_var_x,
        list_inner_product(residual_y, residual_y) / nullif(free, 0) AS residual_var_y
    FROM fitted
),

reliabilities AS (
    SELECT
        r.*, free - 1 AS residual_df,
        1 - ratio(x.ms_interaction / x.n_seeds * mean_share, residual_var_x) AS reliability_x,
        1 - ratio(y.ms_interaction / y.n_seeds * mean_share, residual_var_y) AS reliability_y
    FROM residual_parts AS r
    JOIN compared USING (cell_id, truth)
    LEFT JOIN stg_anova AS x ON x.comparison = 'panel' AND x.cell_id = r.cell_id
    LEFT JOIN stg_anova AS y ON y.comparison = 'panel' AND y.cell_id = compared.truth_cell
)

SELECT
    c.*, d.truth, coalesce(n_saes, 0) AS n_saes,
    spearman,
    fisher_limit(spearman, -1, sqrt((1 + spearman ^ 2 / 2) / nullif(greatest(n_saes - 3, 0), 0))) AS spearman_low,
    fisher_limit(spearman, 1, sqrt((1 + spearman ^ 2 / 2) / nullif(greatest(n_saes - 3, 0), 0))) AS spearman_high,
    kendall, n_cells, residual_df, residual,
    fisher_limit(residual, -1, sqrt(1 / nullif(greatest(residual_df - 1, 0), 0))) AS residual_low,
    fisher_limit(residual, 1, sqrt(1 / nullif(greatest(residual_df - 1, 0), 0))) AS residual_high,
    residual_rank,
    fisher_limit(residual_rank, -1, sqrt(1.06 / nullif(greatest(residual_df - 1, 0), 0))) AS residual_rank_low,
    fisher_limit(residual_rank, 1, sqrt(1.06 / nullif(greatest(residual_df - 1, 0), 0))) AS residual_rank_high,
    CASE
        WHEN reliability_x > 0 AND reliability_y > 0 THEN residual / sqrt(reliability_x * reliability_y)
    END AS residual_disattenuated,
    metric_range, truth_range,
    CASE
        WHEN spearman IS NOT NULL THEN NULL
        WHEN coalesce(n_saes, 0) = 0 THEN 'no task is ok for every SAE at every seed'
        WHEN n_saes = 1 THEN 'one SAE'
        WHEN metric_range = 0 THEN 'the metric is the same for every SAE'
        ELSE 'the truth is the same for every SAE'
    END AS reason,
    CASE
        WHEN residual IS NOT NULL THEN NULL
        WHEN coalesce(n_cells, 0) = 0 THEN 'no SAE has an architecture, a target L0 and both numbers'
        WHEN residual_df < 1 THEN 'no degrees of freedom are left after architecture and L0'
        ELSE 'nothing is left to correlate after architecture and L0'
    END AS residual_reason
FROM compared AS d
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN plain USING (cell_id, truth)
LEFT JOIN concordance USING (cell_id, truth)
LEFT JOIN reliabilities USING (cell_id, truth)
ORDER BY cell_id, truth
