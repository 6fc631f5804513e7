-- Generalisability coefficients (statistics.md, lens 1). One row a cell.
WITH cells AS (
    SELECT cell_id, n_saes, n_seeds, n_tasks FROM stg_compared WHERE comparison = 'panel'
),

two_way AS (
    SELECT
        cell_id, n_saes AS k, n_seeds AS n, ms_sae, ms_seed, ms_interaction,
        CASE WHEN ms_interaction > 0 THEN ms_sae / ms_interaction END AS f_ratio,
        f_quantile(0.975, n_saes - 1, df_interaction) AS f_upper,
        f_quantile(0.975, df_interaction, n_saes - 1) AS f_lower
    FROM stg_anova
    WHERE comparison = 'panel'
),

-- 1 - 1/F at n seeds is (F - 1) / (F + n - 1) at one (ICC(C,1)). An F below 1e-10 says that the SAEs' means agree to the
-- precision of stored scores (float32): a coincidence of coarse scores, whose interval would be a point.
seed_coefficients AS (
    SELECT
        cell_id, f_ratio,
        rho_at_one(f_ratio, n) AS rho_1,
        rho_at_one(f_ratio / f_upper, n) AS rho_1_low,
        rho_at_one(f_ratio * f_lower, n) AS rho_1_high,
        rho_of_mean(f_ratio) AS rho_n,
        rho_of_mean(f_ratio / f_upper) AS rho_n_low,
        rho_of_mean(f_ratio * f_lower) AS rho_n_high,
        ratio(ms_sae - ms_interaction, ms_sae + (n - 1) * ms_interaction + n * (ms_seed - ms_interaction) / k) AS phi_1,
        ratio(ms_sae - ms_interaction, ms_sae + (ms_seed - ms_interaction) / k) AS phi_n
    FROM two_way
    WHERE f_ratio > 1e-10
),

-- SAE x task x seed, all crossed, one observation a cell
sae_task AS (
    SELECT cell_id, sae_id, task, avg(value ORDER BY eval_seed) AS mean_pt
    FROM stg_task_scores
    WHERE comparison = 'panel'
    GROUP BY ALL
),

task_seed AS (
    SELECT cell_id, task, eval_seed, avg(value ORDER BY sae_id) AS mean_ts
    FROM stg_task_scores
    WHERE comparison = 'panel'
    GROUP BY ALL
),

task_means AS (
    SELECT cell_id, task, avg(mean_pt ORDER BY sae_id) AS mean_t FROM sae_task GROUP BY ALL
),

seed_means AS (
    SELECT cell_id, eval_seed, avg(mean_ts ORDER BY task) AS mean_s FROM task_seed GROUP BY ALL
),

deviations AS (
    SELECT
        cell_id, sae_id, task, eval_seed,
        p.value - mean AS d_p,
        mean_pt - p.value - mean_t + mean AS d_pt,
        ps.value - p.value - mean_s + mean AS d_ps,
        score.value - mean_pt - ps.value - mean_ts + p.value + mean_t + mean_s - mean AS d_pts
    FROM stg_task_scores AS score
    JOIN sae_task USING (cell_id, sae_id, task)
    JOIN task_seed USING (cell_id, task, eval_seed)
    JOIN task_means USING (cell_id, task)
    JOIN seed_means USING (cell_id, eval_seed)
    JOIN stg_sae_means AS p USING (comparison, cell_id, sae_id)
    JOIN stg_two_way AS ps USING (comparison, cell_id, sae_id, eval_seed)
    JOIN stg_anova USING (comparison, cell_id)
    WHERE comparison = 'panel'
),

mean_squares AS (
    SELECT
        cell_id, n_saes AS p, n_tasks AS t, n_seeds AS s,
        sum(d_p ^ 2 ORDER BY sae_id, task, eval_seed) / (p - 1) AS ms_p,
        sum(d_pt ^ 2 ORDER BY sae_id, task, eval_seed) / ((p - 1) * (t - 1)) AS ms_pt,
        sum(d_ps ^ 2 ORDER BY sae_id, task, eval_seed) / ((p - 1) * (s - 1)) AS ms_ps,
        sum(d_pts ^ 2 ORDER BY sae_id, task, eval_seed) / ((p - 1) * (t - 1) * (s - 1)) AS ms_pts
    FROM deviations
    JOIN cells USING (cell_id)
    WHERE n_saes > 1 AND n_tasks > 1 AND n_seeds > 1
    GROUP BY cell_id, n_saes, n_tasks, n_seeds
),

components AS (
    SELECT
        cell_id, t, s,
        (ms_p - ms_pt - ms_ps + ms_pts) / (t * s) AS var_sae,
        (ms_pt - ms_pts) / s AS var_sae_task,
        (ms_ps - ms_pts) / t AS var_sae_seed,
        ms_pts AS var_residual
    FROM mean_squares
)

SELECT
    c.*, n_saes, n_seeds, n_tasks, f_ratio,
    rho_1, rho_1_low, rho_1_high, rho_n, rho_n_low, rho_n_high, phi_1, phi_n,
    var_sae, var_sae_task, var_sae_seed, var_residual,
    ratio(var_sae, var_sae + var_sae_task / t + var_sae_seed + var_residual / t) AS rho_random_tasks_1,
    ratio(var_sae, var_sae + var_sae_task / t + var_sae_seed / s + var_residual / (t * s)) AS rho_random_tasks_n,
    CASE
        WHEN rho_1 IS NOT NULL THEN NULL
        WHEN ms_interaction = 0 THEN 'no noise between seeds (seed_inert)'
        WHEN f_ratio <= 1e-10 THEN 'all SAEs score the same'
        ELSE why_no_noise(n_tasks, n_saes, n_seeds)
    END AS reason
FROM cells
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN two_way USING (cell_id)
LEFT JOIN seed_coefficients USING (cell_id, f_ratio)
LEFT JOIN components USING (cell_id)
ORDER BY cell_id
