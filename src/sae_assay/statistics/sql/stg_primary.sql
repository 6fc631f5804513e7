-- Cells of the settings that the study declares primary. Grain: cell_id.
SELECT DISTINCT c.cell_id
FROM stg_cells AS c
JOIN primaries AS p
    ON p.metric = c.metric AND p.component = c.component AND c.hp_value IS NOT DISTINCT FROM p.hp_value
    AND (p.mode IS NULL OR c.mode = p.mode)
ORDER BY c.cell_id
