-- Trained, finished SAEs and controls on the panel's seeds and tasks. Grain: cell_id, sae_id; value is null where the SAE is
-- not ok on all of them.
WITH seeds AS (
    SELECT cell_id, unnest(seeds) AS eval_seed FROM stg_compared WHERE comparison = 'panel' AND n_tasks > 0
),

tasks AS (
    SELECT cell_id, unnest(tasks) AS task FROM stg_compared WHERE comparison = 'panel' AND n_tasks > 0
),

usable AS (
    SELECT cell_id, sae_id, count(*) AS n_ok, avg(value ORDER BY task, eval_seed) AS value
    FROM stg_scores
    JOIN seeds USING (cell_id, eval_seed)
    JOIN tasks USING (cell_id, task)
    WHERE is_ok
    GROUP BY ALL
),

shown AS (
    SELECT DISTINCT cell_id, substrate, sae_id
    FROM stg_scores
    JOIN saes USING (substrate, sae_id)
    WHERE panel IN ('panel', 'control')
)

SELECT
    cell_id, sae.* EXCLUDE (study), n_seeds, n_tasks,
    CASE WHEN n_ok = n_seeds * n_tasks THEN value END AS value,
    CASE
        WHEN n_tasks = 0 THEN 'no task is ok for every SAE at every seed'
        WHEN coalesce(n_ok, 0) < n_seeds * n_tasks THEN 'not ok on every task and seed of the panel'
    END AS reason
FROM shown
JOIN saes AS sae USING (substrate, sae_id)
JOIN stg_compared AS c USING (cell_id)
LEFT JOIN usable USING (cell_id, sae_id)
WHERE comparison = 'panel'
ORDER BY cell_id, sae_id
