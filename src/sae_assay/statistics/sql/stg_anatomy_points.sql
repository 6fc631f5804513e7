-- A score at a point: the mean over tasks that are ok there for every SAE of the anatomy. Grain: cell_id, sae_id, eval_seed.
WITH panels AS (
    SELECT cell_id, count(DISTINCT sae_id) AS n_saes FROM stg_anatomy_scores GROUP BY cell_id
),

common_tasks AS (
    SELECT cell_id, eval_seed, task
    FROM stg_anatomy_scores
    JOIN panels USING (cell_id)
    WHERE is_ok
    GROUP BY cell_id, eval_seed, task, n_saes
    HAVING count(*) = n_saes
)

SELECT s.cell_id, s.substrate, s.sae_id, s.eval_seed, avg(s.value ORDER BY s.task) AS value, count(*) AS n_tasks
FROM stg_anatomy_scores AS s
JOIN common_tasks USING (cell_id, eval_seed, task)
GROUP BY ALL
ORDER BY s.cell_id, s.sae_id, s.eval_seed
