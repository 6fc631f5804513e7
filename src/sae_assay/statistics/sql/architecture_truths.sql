-- The ground truth of an architecture at a target L0: training seeds as the sample. One row a substrate, component,
-- architecture and target L0.
WITH trained AS (
    SELECT c.substrate, c.component, sae.arch, sae.target_l0, sae.training_seed, m.value
    FROM stg_sae_means AS m
    JOIN stg_cells AS c USING (cell_id)
    JOIN saes AS sae ON sae.substrate = c.substrate AND sae.sae_id = m.sae_id
    WHERE m.comparison = 'panel' AND c.metric = 'ground_truth' AND arch IS NOT NULL AND target_l0 IS NOT NULL
),

summed AS (
    SELECT
        substrate, component, arch, target_l0, count(*) AS n_training_seeds,
        avg(value ORDER BY training_seed) AS mean,
        exact_sd(value, training_seed) AS sd
    FROM trained
    GROUP BY ALL
)

SELECT
    substrate, component, arch, target_l0, n_training_seeds, mean, sd,
    mean - t_quantile(0.975, n_training_seeds - 1) * sd / sqrt(n_training_seeds) AS low,
    mean + t_quantile(0.975, n_training_seeds - 1) * sd / sqrt(n_training_seeds) AS high,
    CASE WHEN sd IS NULL THEN 'one training seed: no interval' END AS reason
FROM summed
ORDER BY substrate, component, arch, target_l0
