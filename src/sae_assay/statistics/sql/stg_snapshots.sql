-- Snapshots with their means and the truth. Grain: cell_id, run_id, step. `after` numbers a run's snapshots after step 1.
WITH points AS (
    SELECT
        c.cell_id, c.substrate, m.run_id, m.sae_id, m.arch, m.target_l0, m.training_seed, m.step, m.tokens, m.is_final,
        mean.value, truth.mcc, truth.f1
    FROM stg_compared AS compared
    JOIN stg_cells AS c USING (cell_id)
    JOIN stg_members AS m ON m.comparison = 'trajectory' AND m.substrate = c.substrate
    LEFT JOIN stg_sae_means AS mean
        ON mean.comparison = 'trajectory' AND mean.cell_id = c.cell_id AND mean.sae_id = m.sae_id
    LEFT JOIN stg_truths AS truth
        ON truth.comparison = 'trajectory' AND truth.substrate = c.substrate AND truth.sae_id = m.sae_id
    WHERE compared.comparison = 'trajectory'
),

scored AS (
    SELECT DISTINCT cell_id, sae_id FROM stg_scores
)

SELECT
    *,
    CASE WHEN step > 1 AND value IS NOT NULL THEN row_number() OVER later END AS after,
    count(*) FILTER (step > 1 AND value IS NOT NULL) OVER (PARTITION BY cell_id, run_id) AS n_after,
    max(step) OVER (PARTITION BY cell_id, run_id) AS last_step
FROM points
SEMI JOIN scored USING (cell_id, sae_id)
WINDOW later AS (PARTITION BY cell_id, run_id, step > 1 AND value IS NOT NULL ORDER BY step)
ORDER BY cell_id, run_id, step
