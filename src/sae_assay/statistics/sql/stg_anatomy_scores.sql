-- A noise anatomy's scores at the primary settings (every mode), under each task kind they count towards.
-- Grain: cell columns, sae_id, task, eval_seed.
WITH named AS (
    SELECT
        a.substrate, a.metric, a.component, a.hp_name, a.hp_value, CAST(a.mode AS VARCHAR) AS mode, a.sae_id, a.task,
        a.eval_seed, a.value,
        CAST(a.status AS VARCHAR) = 'ok' AS is_ok,
        CASE
            WHEN a.task_kind IN ('in', 'in-in') THEN 'in'
            WHEN a.task_kind IN ('out', 'out-out') THEN 'out'
            WHEN a.task_kind LIKE '%-%' THEN 'mixed'
            ELSE a.task_kind
        END AS own_kind
    FROM anatomy AS a
    JOIN primaries AS p
        ON p.metric = a.metric AND p.component = a.component AND a.hp_value IS NOT DISTINCT FROM p.hp_value
),

with_kinds AS (
    SELECT *, 'all' AS task_kind FROM named
    UNION ALL
    SELECT *, own_kind AS task_kind FROM named WHERE own_kind IS NOT NULL
)

SELECT
    dense_rank() OVER (
        ORDER BY substrate, metric, component, hp_name NULLS FIRST, hp_value NULLS FIRST, mode NULLS FIRST, task_kind
    ) AS cell_id,
    * EXCLUDE (own_kind)
FROM with_kinds
ORDER BY cell_id, sae_id, task, eval_seed
