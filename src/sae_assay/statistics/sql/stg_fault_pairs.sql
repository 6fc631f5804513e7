-- A repaired mode's score beside that of `saebench`, on the tasks, seeds and SAEs that both can use. Settings at which a
-- single fault is repaired. Grain: cell_id (of the repaired mode), sae_id, eval_seed.
WITH ablated AS (
    SELECT DISTINCT substrate, metric, component, hp_name, hp_value FROM stg_cells WHERE starts_with(mode, 'fix_')
),

pairs AS (
    SELECT r.cell_id, k.cell_id AS kept_cell
    FROM stg_cells AS r
    JOIN ablated USING (substrate, metric, component, hp_name, hp_value)
    JOIN stg_cells AS k USING (substrate, metric, component, hp_name, hp_value, task_kind)
    WHERE r.mode <> 'saebench' AND k.mode = 'saebench'
),

shared AS (
    SELECT r.cell_id, r.sae_id, r.eval_seed, r.task, k.value AS kept, r.value AS repaired
    FROM pairs AS p
    JOIN stg_task_scores AS r ON r.comparison = 'panel' AND r.cell_id = p.cell_id
    JOIN stg_task_scores AS k
        ON k.comparison = 'panel' AND k.cell_id = p.kept_cell
        AND k.sae_id = r.sae_id AND k.task = r.task AND k.eval_seed = r.eval_seed
),

means AS (
    SELECT
        cell_id, sae_id, eval_seed, count(*) AS n_tasks,
        avg(kept ORDER BY task) AS kept, avg(repaired ORDER BY task) AS repaired
    FROM shared
    GROUP BY ALL
)

SELECT p.cell_id, p.kept_cell, sae_id, eval_seed, n_tasks, kept, repaired
FROM pairs AS p
LEFT JOIN means USING (cell_id)
ORDER BY p.cell_id, sae_id, eval_seed
