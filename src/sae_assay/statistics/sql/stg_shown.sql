-- Cells whose points are stored: the primary settings, and metrics that have none. Grain: cell_id.
SELECT cell_id FROM stg_primary
UNION
SELECT cell_id FROM stg_cells WHERE metric IN ('ground_truth', 'reconstruction')
ORDER BY cell_id
