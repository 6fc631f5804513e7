-- Where the oracle lands among the trained SAEs. One row a cell.
WITH oracles AS (
    SELECT m.cell_id, m.value AS oracle_value
    FROM stg_sae_means AS m
    JOIN stg_cells USING (cell_id)
    JOIN saes USING (substrate, sae_id)
    WHERE comparison = 'oracle' AND control = 'oracle'
),

trained AS (
    SELECT m.cell_id, sae_id, m.value
    FROM stg_sae_means AS m
    JOIN stg_cells USING (cell_id)
    JOIN saes USING (substrate, sae_id)
    WHERE comparison = 'oracle' AND control IS NULL
),

ranks AS (
    SELECT
        cell_id, oracle_value, count(*) AS n_saes,
        count(*) FILTER (value > oracle_value) AS n_above,
        100 * (count(*) FILTER (value < oracle_value) + count(*) FILTER (value = oracle_value) / 2) / count(*) AS percentile,
        first(sae_id ORDER BY value DESC, sae_id) AS best_sae_id,
        max(value) AS best_value
    FROM trained
    JOIN oracles USING (cell_id)
    GROUP BY cell_id, oracle_value
),

with_oracle AS (
    SELECT DISTINCT substrate FROM saes WHERE control = 'oracle'
)

SELECT
    c.*, coalesce(r.n_saes, 0) AS n_saes, n_tasks, oracle_value, n_above, percentile, best_sae_id,
    best_value,
    CASE
        WHEN percentile IS NOT NULL THEN NULL
        WHEN with_oracle.substrate IS NULL THEN 'there is no oracle'
        WHEN n_tasks = 0 THEN 'no task is ok for every SAE and the oracle at every seed'
        ELSE 'the oracle or the panel has no number'
    END AS reason
FROM stg_compared
JOIN stg_cells AS c USING (cell_id)
LEFT JOIN with_oracle USING (substrate)
LEFT JOIN ranks AS r USING (cell_id)
WHERE comparison = 'oracle'
ORDER BY cell_id
