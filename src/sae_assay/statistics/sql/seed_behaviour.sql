-- seed_inert / seed_uncontrolled (method.md, what makes reseed noise real, 2). One row a cell.
WITH panel_scores AS (
    SELECT s.*
    FROM stg_scores AS s
    JOIN stg_members AS m USING (substrate, sae_id)
    WHERE m.comparison = 'panel'
),

seeds AS (
    SELECT cell_id, count(DISTINCT eval_seed) AS n_seeds FROM panel_scores GROUP BY cell_id
),

ranges AS (
    SELECT cell_id, sae_id, task, max(value) - min(value) AS seed_range
    FROM panel_scores
    WHERE is_ok
    GROUP BY cell_id, sae_id, task
    HAVING count(*) > 1
),

across_seeds AS (
    SELECT cell_id, count(*) AS n_compared, max(seed_range) AS max_seed_difference FROM ranges GROUP BY cell_id
),

-- a score that is there once and missing the other time differs without a size
within_seed AS (
    SELECT
        cell_id,
        count(*) AS n_repeated,
        max(abs(first.value - second.value)) AS max_repeat_difference,
        bool_or(first.value IS DISTINCT FROM second.value) AS repeats_differ
    FROM stg_scores AS first
    JOIN stg_repeats AS second USING (cell_id, sae_id, task, eval_seed)
    GROUP BY cell_id
)

SELECT
    c.*,
    CASE
        WHEN repeats_differ THEN 'seed_uncontrolled'
        WHEN max_seed_difference = 0 THEN 'seed_inert'
        WHEN n_repeated IS NULL OR n_compared IS NULL THEN 'not_measured'
        ELSE 'ok'
    END AS behaviour,
    n_seeds,
    coalesce(n_compared, 0) AS n_compared,
    coalesce(n_repeated, 0) AS n_repeated,
    max_seed_difference,
    max_repeat_difference,
    CASE
        WHEN repeats_differ THEN NULL
        WHEN n_compared IS NULL THEN 'no score is ok at two evaluation seeds'
        WHEN n_repeated IS NULL THEN 'nothing was scored twice at one evaluation seed'
    END AS reason
FROM seeds
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN across_seeds USING (cell_id)
LEFT JOIN within_seed USING (cell_id)
ORDER BY cell_id
