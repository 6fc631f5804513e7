-- Two-way analysis of variance of the SAE x seed table (one observation a cell). Grain: comparison, cell_id.
-- A sum of squares below 1e-24 of the scores' own is rounding and counts as 0.
WITH grand AS (
    SELECT
        comparison, cell_id,
        count(DISTINCT sae_id) AS n_saes,
        count(DISTINCT eval_seed) AS n_seeds,
        avg(value ORDER BY sae_id, eval_seed) AS mean,
        1e-24 * sum(value * value ORDER BY sae_id, eval_seed) AS rounding
    FROM stg_two_way
    GROUP BY ALL
),

seed_means AS (
    SELECT comparison, cell_id, eval_seed, avg(value ORDER BY sae_id) AS seed_mean FROM stg_two_way GROUP BY ALL
),

parts AS (
    SELECT
        comparison, cell_id, sae_id, eval_seed, n_saes, n_seeds, mean, rounding,
        sae.value - mean AS sae_part,
        seed_mean - mean AS seed_part,
        score.value - sae.value - seed_mean + mean AS interaction_part
    FROM stg_two_way AS score
    JOIN grand USING (comparison, cell_id)
    JOIN stg_sae_means AS sae USING (comparison, cell_id, sae_id)
    JOIN seed_means USING (comparison, cell_id, eval_seed)
),

squares AS (
    SELECT
        comparison, cell_id, n_saes, n_seeds, mean, rounding,
        sum(sae_part * sae_part ORDER BY sae_id, eval_seed) AS ss_sae,
        sum(seed_part * seed_part ORDER BY sae_id, eval_seed) AS ss_seed,
        sum(interaction_part * interaction_part ORDER BY sae_id, eval_seed) AS ss_interaction
    FROM parts
    GROUP BY ALL
),

mean_squares AS (
    SELECT
        comparison, cell_id, n_saes, n_seeds, mean,
        (n_saes - 1) * (n_seeds - 1) AS df_interaction,
        CASE WHEN n_saes > 1 THEN above(ss_sae, rounding) / (n_saes - 1) END AS ms_sae,
        CASE WHEN n_seeds > 1 THEN above(ss_seed, rounding) / (n_seeds - 1) END AS ms_seed,
        CASE
            WHEN n_saes > 1 AND n_seeds > 1 THEN above(ss_interaction, rounding) / ((n_saes - 1) * (n_seeds - 1))
        END AS ms_interaction
    FROM squares
)

SELECT
    *,
    sqrt(ms_interaction) AS sigma_e,
    -- greatest() of a null and 0 is 0
    CASE WHEN ms_interaction IS NOT NULL THEN greatest((ms_seed - ms_interaction) / n_saes, 0) END AS var_seed,
    sqrt(greatest((ms_seed - ms_interaction) / n_saes, 0) + ms_interaction) AS sigma_absolute
FROM mean_squares
ORDER BY comparison, cell_id
