-- Contrasts over training runs, t interval, unit = run (statistics.md, lens 3). One row a cell.
WITH runs AS (
    SELECT
        cell_id,
        count(late_minus_early) AS n_runs,
        avg(late_minus_early ORDER BY run_id) AS difference,
        stddev_samp(late_minus_early ORDER BY run_id) AS sd,
        count(*) FILTER (late_minus_early > 0) AS n_rising,
        avg(spearman ORDER BY run_id) AS spearman,
        count(late_minus_early_mcc) AS n_mcc,
        avg(late_minus_early_mcc ORDER BY run_id) AS truth_mcc,
        stddev_samp(late_minus_early_mcc ORDER BY run_id) AS sd_mcc,
        count(late_minus_early_f1) AS n_f1,
        avg(late_minus_early_f1 ORDER BY run_id) AS truth_f1,
        stddev_samp(late_minus_early_f1 ORDER BY run_id) AS sd_f1,
        avg(change_mcc ORDER BY run_id) AS change_mcc,
        avg(change_f1 ORDER BY run_id) AS change_f1
    FROM stg_trends
    GROUP BY cell_id
)

SELECT
    c.*, n_runs, difference,
    difference - t_quantile(0.975, n_runs - 1) * sd / sqrt(n_runs) AS low,
    difference + t_quantile(0.975, n_runs - 1) * sd / sqrt(n_runs) AS high,
    n_rising, spearman,
    truth_mcc,
    truth_mcc - t_quantile(0.975, n_mcc - 1) * sd_mcc / sqrt(n_mcc) AS truth_mcc_low,
    truth_mcc + t_quantile(0.975, n_mcc - 1) * sd_mcc / sqrt(n_mcc) AS truth_mcc_high,
    truth_f1,
    truth_f1 - t_quantile(0.975, n_f1 - 1) * sd_f1 / sqrt(n_f1) AS truth_f1_low,
    truth_f1 + t_quantile(0.975, n_f1 - 1) * sd_f1 / sqrt(n_f1) AS truth_f1_high,
    change_mcc, change_f1,
    CASE WHEN n_runs = 0 THEN 'no training run has a contrast' WHEN n_runs = 1 THEN 'one training run: no interval' END AS reason
FROM runs
JOIN stg_cells AS c USING (cell_id)
ORDER BY cell_id
