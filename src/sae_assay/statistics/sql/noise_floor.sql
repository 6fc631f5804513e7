-- The binomial SD of accuracies, from their number of test rows, beside the reseed noise. One row a cell.
WITH task_rows AS (
    SELECT
        cell_id, task,
        avg(value ORDER BY sae_id, eval_seed) AS accuracy,
        avg(n_test ORDER BY sae_id, eval_seed) AS n_test
    FROM stg_task_scores
    WHERE comparison = 'panel' AND n_test > 0
    GROUP BY ALL
),

floors AS (
    SELECT
        cell_id, task, n_test,
        CASE
            WHEN component = 'accuracy' THEN 'binomial'
            WHEN metric IN ('tpp', 'scr') THEN 'worst_case'
        END AS basis,
        CASE WHEN component = 'accuracy' THEN accuracy * (1 - accuracy) / n_test ELSE 0.25 / n_test END AS variance
    FROM task_rows
    JOIN stg_cells USING (cell_id)
),

cell_floors AS (
    SELECT
        cell_id, basis, min(n_test) AS n_test_min, median(n_test) AS n_test_median,
        median(sqrt(greatest(variance, 0))) AS task_floor,
        sqrt(greatest(sum(variance ORDER BY task), 0)) / count(*) AS mean_floor
    FROM floors
    WHERE basis IS NOT NULL
    GROUP BY ALL
)

SELECT
    c.*, n_tasks, CAST(n_test_min AS BIGINT) AS n_test_min, n_test_median, basis, task_floor,
    mean_floor, sigma_absolute,
    CASE WHEN mean_floor > 0 THEN sigma_absolute / mean_floor END AS noise_to_floor,
    CASE
        WHEN mean_floor IS NOT NULL THEN NULL
        WHEN n_tasks = 0 THEN 'no task is ok for every SAE at every seed'
        ELSE 'the score is no accuracy over counted rows'
    END AS reason
FROM stg_compared
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN stg_anova USING (comparison, cell_id)
LEFT JOIN cell_floors USING (cell_id)
WHERE comparison = 'panel'
ORDER BY cell_id
