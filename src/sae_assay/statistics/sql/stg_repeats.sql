-- Second scorings at one evaluation seed, under the cells of the first. Grain: cell_id, sae_id, task, eval_seed.
WITH named AS (
    SELECT
        * EXCLUDE (component, mode),
        CAST(mode AS VARCHAR) AS mode,
        CASE WHEN component = 'direction' THEN 'direction_' || direction ELSE component END AS component
    FROM repeats
)

SELECT s.cell_id, s.sae_id, s.task, s.eval_seed, named.value
FROM stg_scores AS s
JOIN named
    ON s.substrate = named.substrate AND s.sae_id = named.sae_id AND s.metric = named.metric
    AND s.component = named.component AND s.task = named.task AND s.eval_seed = named.eval_seed
    AND s.hp_name IS NOT DISTINCT FROM named.hp_name AND s.hp_value IS NOT DISTINCT FROM named.hp_value
    AND s.mode IS NOT DISTINCT FROM named.mode
ORDER BY s.cell_id, s.sae_id, s.task, s.eval_seed
