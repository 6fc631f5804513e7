-- Margins that a sane metric keeps (statistics.md, lens 2, controls). One row a cell and pair of SAEs; the oracle's over
-- every trained SAE at the primary settings only.
WITH pairs AS (
    SELECT
        substrate, 'base_minus_control' AS margin, base_sae_id AS sae_id, sae_id AS other_sae_id, control, arch
    FROM saes
    WHERE panel = 'control' AND base_sae_id IS NOT NULL
    UNION ALL
    SELECT o.substrate, 'oracle_minus_trained', o.sae_id, trained.sae_id, o.control, trained.arch
    FROM saes AS o
    JOIN saes AS trained USING (substrate)
    WHERE o.control = 'oracle' AND trained.panel = 'panel'
),

-- every cell in which one of the two was scored
shown AS (
    SELECT DISTINCT cell_id, p.*
    FROM pairs AS p
    JOIN stg_scores AS s ON s.substrate = p.substrate AND s.sae_id IN (p.sae_id, p.other_sae_id)
    LEFT JOIN stg_primary AS chosen USING (cell_id)
    WHERE p.margin = 'base_minus_control' OR chosen.cell_id IS NOT NULL
),

matched AS (
    SELECT
        a.cell_id, p.sae_id, p.other_sae_id, a.task, a.eval_seed,
        CASE WHEN a.is_ok AND b.is_ok THEN a.value - b.value END AS difference
    FROM pairs AS p
    JOIN stg_scores AS a ON a.substrate = p.substrate AND a.sae_id = p.sae_id
    JOIN stg_scores AS b ON b.cell_id = a.cell_id AND b.sae_id = p.other_sae_id AND b.task = a.task AND b.eval_seed = a.eval_seed
),

common_seeds AS (
    SELECT cell_id, sae_id, other_sae_id, count(DISTINCT eval_seed) AS n_seeds FROM matched GROUP BY ALL
),

common_tasks AS (
    SELECT cell_id, sae_id, other_sae_id, task
    FROM matched
    JOIN common_seeds USING (cell_id, sae_id, other_sae_id)
    GROUP BY cell_id, sae_id, other_sae_id, task, n_seeds
    HAVING count(difference) = n_seeds
),

seed_differences AS (
    SELECT
        cell_id, sae_id, other_sae_id, eval_seed, count(*) AS n_tasks, avg(difference ORDER BY task) AS difference
    FROM matched
    JOIN common_tasks USING (cell_id, sae_id, other_sae_id, task)
    GROUP BY ALL
),

differences AS (
    SELECT
        cell_id, sae_id, other_sae_id, count(*) AS n_seeds, max(n_tasks) AS n_tasks,
        avg(difference ORDER BY eval_seed) AS difference,
        -- equal differences have an SD of exactly 0, free of rounding
        exact_sd(difference, eval_seed) AS sd
    FROM seed_differences
    GROUP BY ALL
),

judged AS (
    SELECT
        s.*, c.* EXCLUDE (cell_id, substrate), kept.best_kept,
        CASE
            WHEN c.metric IN ('sparse_probing', 'sae_probes') THEN 'encoder'
            WHEN c.metric = 'ground_truth' AND c.component IN ('mcc', 'uniqueness') THEN 'decoder'
            WHEN c.metric = 'known_validity' AND truth.truth = 'mcc' THEN 'decoder'
            ELSE 'both'
        END AS reads
    FROM shown AS s
    JOIN stg_cells AS c USING (cell_id)
    LEFT JOIN best_kept AS kept ON kept.substrate = s.substrate
    LEFT JOIN primaries AS truth ON truth.metric = c.metric
),

exempted AS (
    SELECT
        *,
        control = 'permuted_decoder' AND reads <> 'both' AS expected_equal,
        CASE
            WHEN component IN ('l0', 'dead_latents', 'unintended', 'kl') THEN 'higher is not better'
            WHEN control = 'permuted_decoder' AND reads <> 'both' THEN 'the metric reads the ' || reads || ' only'
            WHEN margin = 'oracle_minus_trained' AND component LIKE 'explained_variance%'
                THEN 'the oracle reconstructs no feature beyond its dictionary'
            WHEN margin = 'oracle_minus_trained' AND task_kind NOT IN ('in', '__all__')
                AND in_kind.cell_id IS NOT NULL
                THEN 'the oracle has no latent for out features: judge it on in tasks'
            WHEN control = 'best' AND hp_value IS NOT NULL AND best_kept IS NULL
                THEN 'it is not declared how many latents the control keeps'
            WHEN control = 'best' AND hp_value <= best_kept THEN 'the metric needs no more latents than the control keeps'
        END AS exemption
    FROM judged
    LEFT JOIN stg_kinds AS in_kind USING (cell_id)
),

counted AS (
    SELECT
        e.*, d.difference, d.sd, coalesce(d.n_seeds, 0) AS n_seeds, coalesce(d.n_tasks, 0) AS n_tasks,
        exemption IS NULL AND d.difference IS NOT NULL AS applicable,
        count(*) FILTER (exemption IS NULL AND d.difference IS NOT NULL) OVER (PARTITION BY e.cell_id) AS n_margins
    FROM exempted AS e
    LEFT JOIN differences AS d USING (cell_id, sae_id, other_sae_id)
)

SELECT
    cell_id, substrate, metric, component, hp_name, hp_value, mode, task_kind, margin, sae_id, other_sae_id, control, arch,
    n_tasks, n_seeds, difference, sd,
    difference - t_quantile(0.975, n_seeds - 1) * sd / sqrt(n_seeds) AS low,
    difference + t_quantile(0.975, n_seeds - 1) * sd / sqrt(n_seeds) AS high,
    n_margins,
    difference - t_quantile(1 - 0.025 / greatest(n_margins, 1), n_seeds - 1) * sd / sqrt(n_seeds) AS simultaneous_low,
    difference + t_quantile(1 - 0.025 / greatest(n_margins, 1), n_seeds - 1) * sd / sqrt(n_seeds) AS simultaneous_high,
    applicable, expected_equal,
    CASE
        WHEN exemption IS NOT NULL THEN exemption
        WHEN difference IS NULL THEN 'no task is ok for both at every common seed'
        WHEN n_seeds < 2 THEN 'one evaluation seed: no interval'
    END AS reason
FROM counted
ORDER BY cell_id, margin, sae_id, other_sae_id
