-- The SAE x seed table of task means. Grain: comparison, cell_id, sae_id, eval_seed.
SELECT comparison, cell_id, sae_id, eval_seed, avg(value ORDER BY task) AS value
FROM stg_task_scores
GROUP BY ALL
ORDER BY comparison, cell_id, sae_id, eval_seed
