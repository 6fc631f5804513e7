-- Means over the compared seeds. Grain: comparison, cell_id, sae_id.
SELECT comparison, cell_id, sae_id, avg(value ORDER BY eval_seed) AS value
FROM stg_two_way
GROUP BY ALL
ORDER BY comparison, cell_id, sae_id
