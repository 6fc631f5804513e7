-- The SAEs, seeds and tasks that a comparison can use: SAEs with any number, seeds at which all of them were scored, tasks
-- that are ok for each of them at each of those seeds. Grain: comparison, cell_id.
WITH member_scores AS (
    SELECT m.comparison, s.cell_id, s.sae_id, s.eval_seed, s.task, s.is_ok
    FROM stg_scores AS s
    JOIN stg_members AS m USING (substrate, sae_id)
    -- snapshots take no part in the fault ablation
    WHERE m.comparison <> 'trajectory' OR s.mode IS NULL OR NOT starts_with(s.mode, 'fix_')
),

cells AS (
    SELECT DISTINCT comparison, cell_id FROM member_scores
),

compared_saes AS (
    SELECT DISTINCT comparison, cell_id, sae_id FROM member_scores WHERE is_ok
),

sae_counts AS (
    SELECT comparison, cell_id, count(*) AS n_saes FROM compared_saes GROUP BY ALL
),

compared_scores AS (
    SELECT * FROM member_scores JOIN compared_saes USING (comparison, cell_id, sae_id)
),

compared_seeds AS (
    SELECT comparison, cell_id, eval_seed
    FROM compared_scores
    JOIN sae_counts USING (comparison, cell_id)
    GROUP BY comparison, cell_id, eval_seed, n_saes
    HAVING count(DISTINCT sae_id) = n_saes
),

seed_lists AS (
    SELECT comparison, cell_id, count(*) AS n_seeds, list(eval_seed ORDER BY eval_seed) AS seeds
    FROM compared_seeds
    GROUP BY ALL
),

common_tasks AS (
    SELECT comparison, cell_id, task
    FROM compared_scores
    JOIN compared_seeds USING (comparison, cell_id, eval_seed)
    JOIN sae_counts USING (comparison, cell_id)
    JOIN seed_lists USING (comparison, cell_id)
    WHERE is_ok
    GROUP BY comparison, cell_id, task, n_saes, n_seeds
    HAVING count(*) = n_saes * n_seeds
),

task_lists AS (
    SELECT comparison, cell_id, count(*) AS n_tasks, list(task ORDER BY task) AS tasks
    FROM common_tasks
    GROUP BY ALL
)

SELECT
    comparison, cell_id,
    coalesce(n_saes, 0) AS n_saes,
    coalesce(n_seeds, 0) AS n_seeds,
    coalesce(n_tasks, 0) AS n_tasks,
    seeds,
    tasks
FROM cells
LEFT JOIN sae_counts USING (comparison, cell_id)
LEFT JOIN seed_lists USING (comparison, cell_id)
LEFT JOIN task_lists USING (comparison, cell_id)
ORDER BY comparison, cell_id
