-- The balanced scores of a comparison. Grain: comparison, cell_id, sae_id, task, eval_seed.
WITH seeds AS (
    SELECT comparison, cell_id, unnest(seeds) AS eval_seed FROM stg_compared WHERE n_tasks > 0
),

tasks AS (
    SELECT comparison, cell_id, unnest(tasks) AS task FROM stg_compared WHERE n_tasks > 0
)

SELECT comparison, cell_id, s.sae_id, task, eval_seed, s.value, s.n_test
FROM stg_scores AS s
JOIN stg_members AS m USING (substrate, sae_id)
JOIN seeds USING (comparison, cell_id, eval_seed)
JOIN tasks USING (comparison, cell_id, task)
WHERE s.is_ok
ORDER BY comparison, cell_id, sae_id, task, eval_seed
