-- A training run's trend. Grain: cell_id, run_id.
WITH points AS (
    SELECT *, log10(tokens) AS log_tokens FROM stg_snapshots WHERE value IS NOT NULL AND tokens IS NOT NULL
),

ranked AS (
    SELECT
        *,
        mid_rank(rank() OVER (PARTITION BY cell_id, run_id ORDER BY value), count(*) OVER (PARTITION BY cell_id, run_id, value)) AS rank_value,
        rank() OVER (PARTITION BY cell_id, run_id ORDER BY step) AS rank_step
    FROM points
),

rank_trends AS (
    SELECT
        cell_id, run_id, count(*) AS n_snapshots,
        CASE WHEN max(value) > min(value) THEN corr(rank_value, rank_step ORDER BY step) END AS spearman
    FROM ranked
    GROUP BY ALL
),

slopes AS (
    SELECT
        a.cell_id, a.run_id,
        ratio(
            sum(sign(b.value - a.value)),
            sqrt(CAST(count(*) FILTER (a.value <> b.value) AS DOUBLE) * count(*))
        ) AS kendall,
        median((b.value - a.value) / (b.log_tokens - a.log_tokens)) AS theil_sen
    FROM points AS a
    JOIN points AS b ON a.cell_id = b.cell_id AND a.run_id = b.run_id AND a.step < b.step
    GROUP BY ALL
),

thirds AS (
    SELECT
        *,
        n_after // 3 AS third,
        after <= n_after // 3 AS is_early,
        after > n_after - n_after // 3 AS is_late
    FROM stg_snapshots
    WHERE after IS NOT NULL AND n_after >= 3
),

contrasts AS (
    SELECT
        cell_id, run_id,
        avg(value ORDER BY step) FILTER (is_early) AS early,
        avg(value ORDER BY step) FILTER (is_late) AS late,
        avg(mcc ORDER BY step) FILTER (is_late) - avg(mcc ORDER BY step) FILTER (is_early) AS late_minus_early_mcc,
        avg(f1 ORDER BY step) FILTER (is_late) - avg(f1 ORDER BY step) FILTER (is_early) AS late_minus_early_f1,
        avg(CAST(step > (1 - decay_fraction) * last_step AS DOUBLE) ORDER BY step) FILTER (is_late) AS late_in_decay
    FROM thirds
    LEFT JOIN decay_fractions USING (substrate)
    GROUP BY ALL
),

changes AS (
    SELECT
        cell_id, run_id, step,
        value - lag(value) OVER run AS d_value,
        mcc - lag(mcc) OVER run AS d_mcc,
        f1 - lag(f1) OVER run AS d_f1
    FROM points
    WINDOW run AS (PARTITION BY cell_id, run_id ORDER BY step)
),

change_correlations AS (
    SELECT
        cell_id, run_id,
        CASE WHEN varies(d_value) AND varies(d_mcc) AND count(d_mcc) > 2 THEN corr(d_value, d_mcc ORDER BY step) END AS change_mcc,
        CASE WHEN varies(d_value) AND varies(d_f1) AND count(d_f1) > 2 THEN corr(d_value, d_f1 ORDER BY step) END AS change_f1
    FROM changes
    GROUP BY ALL
),

runs AS (
    SELECT DISTINCT cell_id, substrate, run_id, arch, training_seed FROM stg_snapshots
)

SELECT
    cell_id, run_id, arch, training_seed, coalesce(n_snapshots, 0) AS n_snapshots, spearman, kendall, theil_sen,
    early, late, late - early AS late_minus_early, late_minus_early_mcc, late_minus_early_f1, change_mcc, change_f1,
    late_in_decay,
    CASE
        WHEN late IS NOT NULL THEN NULL
        WHEN n_snapshots IS NULL THEN 'no task is ok for every snapshot at every seed'
        ELSE 'fewer than three snapshots after step 1'
    END AS reason
FROM runs
LEFT JOIN rank_trends USING (cell_id, run_id)
LEFT JOIN slopes USING (cell_id, run_id)
LEFT JOIN contrasts USING (cell_id, run_id)
LEFT JOIN change_correlations USING (cell_id, run_id)
ORDER BY cell_id, run_id
