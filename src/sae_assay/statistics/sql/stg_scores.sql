-- Score rows under every task kind they count towards: their own, `all`, or `__all__` for a metric without tasks.
-- Grain: cell columns, sae_id, task, eval_seed. -1 stands for a seed that those who computed a score did not write down.
WITH named AS (
    SELECT
        substrate, metric, hp_name, hp_value, CAST(mode AS VARCHAR) AS mode, sae_id, task, value, n_test,
        coalesce(eval_seed, -1) AS eval_seed,
        CAST(status AS VARCHAR) = 'ok' AS is_ok,
        CASE WHEN component = 'direction' THEN 'direction_' || direction ELSE component END AS component,
        CASE
            WHEN task_kind IN ('in', 'in-in') THEN 'in'
            WHEN task_kind IN ('out', 'out-out') THEN 'out'
            WHEN task_kind LIKE '%-%' THEN 'mixed'
            ELSE task_kind
        END AS own_kind
    FROM scores
),

with_kinds AS (
    SELECT *, '__all__' AS task_kind FROM named WHERE task = '__all__'
    UNION ALL
    SELECT *, 'all' AS task_kind FROM named WHERE task <> '__all__'
    UNION ALL
    SELECT *, own_kind AS task_kind FROM named WHERE task <> '__all__' AND own_kind IS NOT NULL
)

SELECT
    dense_rank() OVER (
        ORDER BY substrate, metric, component, hp_name NULLS FIRST, hp_value NULLS FIRST, mode NULLS FIRST, task_kind
    ) AS cell_id,
    * EXCLUDE (own_kind)
FROM with_kinds
ORDER BY cell_id, sae_id, task, eval_seed
