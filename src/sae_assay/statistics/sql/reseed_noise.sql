-- Relative and absolute reseed noise (statistics.md, lens 1). One row a cell.
WITH cells AS (
    SELECT cell_id, n_saes, n_seeds, n_tasks FROM stg_compared WHERE comparison = 'panel'
),

components AS (
    SELECT
        cell_id, mean, ms_sae, ms_seed, ms_interaction, df_interaction, n_saes AS k, n_seeds AS n,
        sigma_e, sigma_absolute, var_seed,
        (ms_seed - ms_interaction) / n_saes AS var_seed_raw,
        (ms_seed + (n_saes - 1) * ms_interaction) / n_saes AS var_absolute_raw
    FROM stg_anova
    WHERE comparison = 'panel'
),

noises AS (
    SELECT
        *,
        sqrt(var_seed / n + ms_interaction / (k * n)) AS se_mean,
        -- Satterthwaite: the absolute variance is a weighted sum of two mean squares
        CASE
            WHEN var_absolute_raw > 0 THEN var_absolute_raw ^ 2
                / ((ms_seed / k) ^ 2 / (n - 1) + ((k - 1) * ms_interaction / k) ^ 2 / df_interaction)
        END AS df_absolute
    FROM components
),

quantiles AS (
    SELECT
        *,
        t_quantile(0.975, df_interaction) AS t_relative,
        t_quantile(0.975, df_absolute) AS t_absolute,
        t_quantile(0.975, n - 1) AS t_fixed,
        t_quantile(0.975, 2 * (n - 1)) AS t_mean
    FROM noises
),

ranges AS (
    SELECT
        cell_id,
        avg(CASE WHEN control = 'oracle' THEN value END ORDER BY sae_id)
        - avg(CASE WHEN control = 'random_init' THEN value END ORDER BY sae_id) AS oracle_range
    FROM stg_panel_points
    GROUP BY cell_id
)

SELECT
    c.*,
    n_saes, n_seeds, n_tasks, mean, se_mean, ms_sae, ms_seed, ms_interaction, sigma_e,
    sqrt(df_interaction * ms_interaction / chi2_quantile(0.975, df_interaction)) AS sigma_e_low,
    sqrt(df_interaction * ms_interaction / chi2_quantile(0.025, df_interaction)) AS sigma_e_high,
    var_seed_raw,
    sqrt(var_seed) AS sigma_g,
    sigma_absolute,
    sqrt(df_absolute * var_absolute_raw / chi2_quantile(0.975, df_absolute)) AS sigma_absolute_low,
    sqrt(df_absolute * var_absolute_raw / chi2_quantile(0.025, df_absolute)) AS sigma_absolute_high,
    CASE WHEN sigma_e IS NOT NULL THEN CAST(df_interaction AS DOUBLE) END AS df_relative,
    df_absolute,
    CASE WHEN abs(mean) >= 3 * se_mean AND mean <> 0 THEN sigma_e / abs(mean) END AS cv_relative,
    CASE WHEN abs(mean) >= 3 * se_mean AND mean <> 0 THEN sigma_absolute / abs(mean) END AS cv_absolute,
    CASE
        WHEN sigma_e IS NULL THEN 'no noise was estimated'
        WHEN abs(mean) < 3 * se_mean OR mean = 0 THEN 'the mean is within 3 standard errors of 0'
    END AS cv_reason,
    oracle_range,
    CASE WHEN oracle_range <> 0 THEN sigma_e / abs(oracle_range) END AS noise_to_range,
    t_relative * sqrt(2) * sigma_e AS mrd_relative,
    CASE WHEN sigma_absolute = 0 THEN 0 ELSE t_absolute * sqrt(2) * sigma_absolute END AS mrd_absolute,
    t_fixed * sqrt(2) * sigma_absolute AS mrd_fixed_sae,
    t_mean * sqrt(2 / n) * sigma_absolute AS mrd_mean,
    t_noncentrality(0.8, t_mean, 2 * (n - 1)) * sqrt(2 / n) * sigma_absolute AS mdd_unpaired,
    t_noncentrality(0.8, t_relative, df_interaction) * sqrt(2 / n) * sigma_e AS mdd_paired,
    CASE WHEN sigma_e > 0 THEN sqrt(greatest(0, (ms_sae - ms_interaction) / n)) / sigma_e END AS signal_to_noise,
    CASE WHEN sigma_e IS NULL THEN why_no_noise(n_tasks, n_saes, n_seeds) END AS reason
FROM cells
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN quantiles USING (cell_id)
LEFT JOIN ranges USING (cell_id)
ORDER BY cell_id
