-- What one fault of `saebench` costs: validity and relative noise with and without it, on the same tasks, seeds and SAEs.
-- One row a cell of a repaired mode, at the settings at which single faults are repaired.
WITH sides AS (
    SELECT cell_id, sae_id, eval_seed, 'kept' AS side, kept AS value FROM stg_fault_pairs WHERE kept IS NOT NULL
    UNION ALL
    SELECT cell_id, sae_id, eval_seed, 'repaired', repaired FROM stg_fault_pairs WHERE repaired IS NOT NULL
),

-- Relative noise: the interaction of SAE and seed, as in stg_anova -------------------------------------------------------
grand AS (
    SELECT
        cell_id, side, count(DISTINCT sae_id) AS k, count(DISTINCT eval_seed) AS n,
        avg(value ORDER BY sae_id, eval_seed) AS mean,
        1e-24 * sum(value * value ORDER BY sae_id, eval_seed) AS rounding
    FROM sides
    GROUP BY ALL
),

sae_means AS (
    SELECT cell_id, side, sae_id, avg(value ORDER BY eval_seed) AS sae_mean FROM sides GROUP BY ALL
),

seed_means AS (
    SELECT cell_id, side, eval_seed, avg(value ORDER BY sae_id) AS seed_mean FROM sides GROUP BY ALL
),

deviations AS (
    SELECT
        cell_id, side, sae_id, eval_seed, sae_mean - mean AS d_sae, value - sae_mean - seed_mean + mean AS e
    FROM sides
    JOIN grand USING (cell_id, side)
    JOIN sae_means USING (cell_id, side, sae_id)
    JOIN seed_means USING (cell_id, side, eval_seed)
),

squares AS (
    SELECT
        cell_id, side, k, n, mean, (k - 1) * (n - 1) AS df,
        CASE WHEN k > 1 THEN above(sum(d_sae * d_sae ORDER BY sae_id, eval_seed), rounding) / (k - 1) END AS ms_sae,
        CASE WHEN k > 1 AND n > 1 THEN above(sum(e * e ORDER BY sae_id, eval_seed), rounding) / ((k - 1) * (n - 1)) END AS ms_e
    FROM deviations
    JOIN grand USING (cell_id, side)
    GROUP BY cell_id, side, k, n, mean, rounding
),

products AS (
    SELECT a.cell_id, sum(a.e * b.e ORDER BY a.sae_id, a.eval_seed) AS e_product
    FROM deviations AS a
    JOIN deviations AS b USING (cell_id, sae_id, eval_seed)
    WHERE a.side = 'kept' AND b.side = 'repaired'
    GROUP BY a.cell_id
),

noises AS (
    SELECT
        a.cell_id, a.k, a.n, a.df, a.mean AS mean_kept, b.mean AS mean_repaired,
        a.ms_e AS ms_kept, b.ms_e AS ms_repaired,
        rho_at_one(ratio(a.ms_sae, a.ms_e), a.n) AS rho_kept,
        rho_at_one(ratio(b.ms_sae, b.ms_e), b.n) AS rho_repaired,
        ratio(b.ms_e, a.ms_e) AS variance_ratio,
        -- the two noises come from the same rows and draws: Pitman and Morgan's limits for correlated variances
        ratio(e_product, a.df * sqrt(a.ms_e * b.ms_e)) AS noise_correlation
    FROM squares AS a
    JOIN squares AS b USING (cell_id)
    JOIN products USING (cell_id)
    WHERE a.side = 'kept' AND b.side = 'repaired'
),

noise_limits AS (
    SELECT *, morgan_width(noise_correlation, df, t_quantile(0.975, CAST(df - 1 AS DOUBLE))) AS width FROM noises
),

-- Validity: residuals after architecture and L0, as in validity ----------------------------------------------------------
truths AS (
    SELECT t.cell_id AS truth_cell, t.substrate, p.metric, p.truth
    FROM primaries AS p
    JOIN stg_cells AS t ON t.metric = 'ground_truth' AND t.component = p.truth
),

design AS (
    SELECT
        a.cell_id, truth, arch, target_l0,
        avg(a.sae_mean ORDER BY sae_id) AS kept, avg(b.sae_mean ORDER BY sae_id) AS repaired,
        avg(t.value ORDER BY sae_id) AS truth_value
    FROM sae_means AS a
    JOIN sae_means AS b USING (cell_id, sae_id)
    JOIN stg_cells AS c USING (cell_id)
    JOIN truths USING (substrate, metric)
    JOIN stg_sae_means AS t ON t.comparison = 'panel' AND t.cell_id = truth_cell AND t.sae_id = a.sae_id
    JOIN saes AS sae ON sae.substrate = c.substrate AND sae.sae_id = a.sae_id
    WHERE a.side = 'kept' AND b.side = 'repaired' AND arch IS NOT NULL AND target_l0 IS NOT NULL
    GROUP BY a.cell_id, truth, arch, target_l0
),

fitted AS (
    SELECT
        cell_id, truth, count(*) AS n_cells,
        list(arch ORDER BY arch, target_l0) AS archs,
        list(target_l0 ORDER BY arch, target_l0) AS l0s,
        residual_rank(archs, l0s) - 1 AS residual_df,
        residual_df > 0 AND varies(kept) AND varies(repaired) AND varies(truth_value) AS usable,
        residuals(archs, l0s, list(kept ORDER BY arch, target_l0)) AS left_kept,
        residuals(archs, l0s, list(repaired ORDER BY arch, target_l0)) AS left_repaired,
        residuals(archs, l0s, list(truth_value ORDER BY arch, target_l0)) AS left_truth
    FROM design
    GROUP BY ALL
),

correlations AS (
    SELECT
        cell_id, truth, n_cells, residual_df,
        CASE WHEN usable THEN cosine(left_kept, left_truth) END AS r_kept,
        CASE WHEN usable THEN cosine(left_repaired, left_truth) END AS r_repaired,
        CASE WHEN usable THEN cosine(left_kept, left_repaired) END AS r_between
    FROM fitted
),

-- both correlate with one truth over the same SAEs: the delta method's standard error of their difference (Olkin and Finn)
validities AS (
    SELECT
        *, r_repaired - r_kept AS change,
        t_quantile(0.975, CAST(residual_df - 1 AS DOUBLE)) * change_se(r_kept, r_repaired, r_between, residual_df - 1) AS half
    FROM correlations
),

counts AS (
    SELECT cell_id, kept_cell, coalesce(max(n_tasks), 0) AS n_tasks FROM stg_fault_pairs GROUP BY ALL
)

SELECT
    c.*, coalesce(k, 0) AS n_saes, coalesce(n, 0) AS n_seeds, counts.n_tasks,
    kept.n_tasks AS n_tasks_saebench, p.truth, mean_kept AS mean_saebench, mean_repaired,
    n_cells, residual_df, r_kept AS residual_saebench, r_repaired AS residual_repaired,
    change AS residual_change, change - half AS residual_change_low, change + half AS residual_change_high,
    sqrt(ms_kept) AS sigma_e_saebench, sqrt(ms_repaired) AS sigma_e_repaired,
    sqrt(variance_ratio) AS noise_ratio,
    sqrt(variance_ratio * (width - sqrt(width * width - 1))) AS noise_ratio_low,
    sqrt(variance_ratio * (width + sqrt(width * width - 1))) AS noise_ratio_high,
    rho_kept AS rho_1_saebench, rho_repaired AS rho_1_repaired,
    CASE
        WHEN variance_ratio IS NOT NULL THEN NULL
        WHEN counts.n_tasks = 0 THEN 'no task is ok in both modes for every SAE at every seed'
        WHEN ms_kept = 0 THEN 'no noise between seeds in mode saebench'
        ELSE why_no_noise(counts.n_tasks, k, n)
    END AS reason,
    CASE
        WHEN r_repaired IS NOT NULL AND r_kept IS NOT NULL THEN NULL
        WHEN counts.n_tasks = 0 THEN 'no task is ok in both modes for every SAE at every seed'
        WHEN p.truth IS NULL THEN 'the study declares no truth for this metric'
        WHEN coalesce(n_cells, 0) = 0 THEN 'no SAE has an architecture, a target L0 and a truth'
        WHEN residual_df < 1 THEN 'no degrees of freedom are left after architecture and L0'
        ELSE 'nothing is left to correlate after architecture and L0'
    END AS residual_reason
FROM counts
JOIN stg_cells AS c USING (cell_id)
JOIN stg_compared AS kept ON kept.comparison = 'panel' AND kept.cell_id = counts.kept_cell
LEFT JOIN primaries AS p ON p.metric = c.metric
LEFT JOIN noise_limits AS noise ON noise.cell_id = counts.cell_id
LEFT JOIN validities AS v ON v.cell_id = counts.cell_id
ORDER BY counts.cell_id
