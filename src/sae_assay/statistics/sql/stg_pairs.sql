-- Pairs of training runs at a matched step after step 1 (which passes anything). Grain: cell_id, step, run_a, run_b.
WITH points AS (
    SELECT * FROM stg_snapshots WHERE after IS NOT NULL
),

truth_noise AS (
    SELECT substrate, component, step, sigma_e * sqrt(2 / n_seeds) AS se
    FROM stg_step_noise
    JOIN stg_cells USING (cell_id)
    WHERE metric = 'ground_truth'
),

pairs AS (
    SELECT
        a.cell_id, a.substrate, a.step, a.run_id AS run_a, b.run_id AS run_b, a.sae_id AS sae_a, b.sae_id AS sae_b,
        n.n_runs, n.n_seeds, n.df,
        a.value - b.value AS difference,
        CASE WHEN n.sigma_e > 0 THEN (a.value - b.value) / (n.sigma_e * sqrt(2 / n.n_seeds)) END AS t,
        a.mcc - b.mcc AS difference_mcc, mcc.se AS se_mcc,
        a.f1 - b.f1 AS difference_f1, f1.se AS se_f1
    FROM points AS a
    JOIN points AS b ON a.cell_id = b.cell_id AND a.step = b.step AND a.run_id < b.run_id
    JOIN stg_step_noise AS n ON n.cell_id = a.cell_id AND n.step = a.step
    LEFT JOIN truth_noise AS mcc ON mcc.component = 'mcc' AND mcc.substrate = a.substrate AND mcc.step = a.step
    LEFT JOIN truth_noise AS f1 ON f1.component = 'f1' AND f1.substrate = a.substrate AND f1.step = a.step
),

tested AS (
    SELECT *, t_two_sided_p(t, df) AS p FROM pairs
),

-- Benjamini-Hochberg: p m / rank, made monotone from the largest p down
stepped AS (
    SELECT
        *,
        CASE
            WHEN p IS NOT NULL THEN p * count(p) OVER (PARTITION BY cell_id)
                / row_number() OVER (PARTITION BY cell_id ORDER BY p NULLS LAST, step, run_a, run_b)
        END AS p_stepped
    FROM tested
)

SELECT
    * EXCLUDE (p_stepped),
    CASE
        WHEN p IS NOT NULL THEN least(1, min(p_stepped) OVER (
            PARTITION BY cell_id ORDER BY p DESC NULLS FIRST, step DESC, run_a DESC, run_b DESC ROWS UNBOUNDED PRECEDING
        ))
    END AS p_bh
FROM stepped
ORDER BY cell_id, step, run_a, run_b
