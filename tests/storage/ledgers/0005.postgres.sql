SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.bad_rows (
    dataset_key integer NOT NULL,
    source text NOT NULL COLLATE pg_catalog."C",
    problem text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.datasets (
    dataset_key integer NOT NULL,
    dataset_id text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    size integer NOT NULL,
    conversational boolean NOT NULL,
    num_duplicates integer NOT NULL,
    created_at timestamp without time zone NOT NULL,
    texts_kept boolean
);
CREATE TABLE public.pool_samples (
    dataset_key integer NOT NULL,
    ordinal integer NOT NULL,
    sample_id text NOT NULL COLLATE pg_catalog."C",
    category text COLLATE pg_catalog."C",
    prompt text COLLATE pg_catalog."C",
    completion text COLLATE pg_catalog."C",
    answer text COLLATE pg_catalog."C",
    metadata text COLLATE pg_catalog."C",
    source text COLLATE pg_catalog."C",
    content_hash text COLLATE pg_catalog."C",
    prompt_chars integer,
    completion_chars integer
);
CREATE TABLE public.runs (
    run_key integer NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    experiment text COLLATE pg_catalog."C",
    seed bigint NOT NULL,
    strategy text NOT NULL COLLATE pg_catalog."C",
    scorer text NOT NULL COLLATE pg_catalog."C",
    trainer text NOT NULL COLLATE pg_catalog."C",
    model text NOT NULL COLLATE pg_catalog."C",
    dataset_key integer NOT NULL,
    eval_dataset_id text COLLATE pg_catalog."C",
    metric text COLLATE pg_catalog."C",
    intervals_planned integer NOT NULL,
    pool_size integer NOT NULL,
    top_n integer NOT NULL,
    run_dir text NOT NULL COLLATE pg_catalog."C",
    config text NOT NULL COLLATE pg_catalog."C",
    plan text NOT NULL COLLATE pg_catalog."C",
    versions text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    message text COLLATE pg_catalog."C",
    current_interval smallint,
    current_stage text COLLATE pg_catalog."C",
    created_at timestamp without time zone NOT NULL,
    finished_at timestamp without time zone,
    lease_owner text COLLATE pg_catalog."C",
    lease_token integer NOT NULL,
    lease_expires_at timestamp without time zone,
    lease_ttl_s double precision NOT NULL
);
CREATE TABLE public.sample_beliefs (
    run_key integer NOT NULL,
    ordinal integer NOT NULL,
    alpha double precision NOT NULL,
    beta double precision NOT NULL,
    "interval" smallint NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY LIST (run_id);
CREATE VIEW public.beliefs AS
 SELECT b.run_id,
    d.dataset_id,
    b."interval",
    p.sample_id,
    b.alpha,
    b.beta,
    (b.alpha / (b.alpha + b.beta)) AS mean
   FROM (((public.sample_beliefs b
     JOIN public.runs r ON ((r.run_id = b.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = b.ordinal))));
CREATE TABLE public.evaluation_results (
    run_key integer NOT NULL,
    "interval" smallint NOT NULL,
    metric text NOT NULL COLLATE pg_catalog."C",
    category text COLLATE pg_catalog."C",
    value double precision NOT NULL,
    n integer NOT NULL,
    seconds double precision
);
CREATE TABLE public.saved_checkpoints (
    run_key integer CONSTRAINT checkpoints_run_key_not_null NOT NULL,
    "interval" smallint CONSTRAINT checkpoints_interval_not_null NOT NULL,
    step integer CONSTRAINT checkpoints_step_not_null NOT NULL,
    path text CONSTRAINT checkpoints_path_not_null NOT NULL COLLATE pg_catalog."C",
    weights_sha256 text CONSTRAINT checkpoints_weights_sha256_not_null NOT NULL COLLATE pg_catalog."C",
    created_at timestamp without time zone CONSTRAINT checkpoints_created_at_not_null NOT NULL,
    removed_at timestamp without time zone
);
CREATE VIEW public.checkpoints AS
 SELECT r.run_id,
    c."interval",
    c.step,
    substr(c.weights_sha256, 1, 16) AS checkpoint_id,
    c.weights_sha256,
    c.path,
    e.value AS metric,
    c.created_at,
    c.removed_at
   FROM ((public.runs r
     JOIN public.saved_checkpoints c ON ((c.run_key = r.run_key)))
     LEFT JOIN public.evaluation_results e ON (((e.run_key = c.run_key) AND (e."interval" = (c."interval" - 1)) AND (e.metric = r.metric) AND (e.category IS NULL))));
CREATE TABLE public.selection_rules (
    run_key integer NOT NULL,
    "interval" smallint NOT NULL,
    reason text NOT NULL COLLATE pg_catalog."C",
    cutoff double precision,
    facts text NOT NULL COLLATE pg_catalog."C",
    generator text NOT NULL COLLATE pg_catalog."C",
    state text COLLATE pg_catalog."C"
);
CREATE TABLE public.selections (
    run_key integer CONSTRAINT selections_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT selections_ordinal_not_null1 NOT NULL,
    score double precision CONSTRAINT selections_score_not_null1 NOT NULL,
    probability double precision,
    "position" integer CONSTRAINT selections_position_not_null1 NOT NULL,
    rank integer CONSTRAINT selections_rank_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT selections_interval_not_null1 NOT NULL,
    change smallint CONSTRAINT selections_change_not_null1 NOT NULL,
    times_selected smallint CONSTRAINT selections_times_selected_not_null1 NOT NULL,
    streak smallint CONSTRAINT selections_streak_not_null1 NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY LIST (run_id);
CREATE VIEW public.curriculum AS
 SELECT x.run_id,
    d.dataset_id,
    x."interval",
    p.sample_id,
    x."position",
    x.rank,
    x.score,
    x.probability,
    f.reason,
        CASE x.change
            WHEN 0 THEN 'first_time'::text
            WHEN 1 THEN 'returned'::text
            ELSE 'stayed'::text
        END AS change,
    x.times_selected,
    x.streak
   FROM ((((public.selections x
     JOIN public.runs r ON ((r.run_id = x.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = x.ordinal))))
     JOIN public.selection_rules f ON (((f.run_key = r.run_key) AND (f."interval" = x."interval"))));
CREATE VIEW public.evaluations AS
 SELECT r.run_id,
    e."interval",
    e.metric,
    e.category,
    e.value,
    e.n,
    e.seconds
   FROM (public.runs r
     JOIN public.evaluation_results e ON ((e.run_key = r.run_key)));
CREATE TABLE public.interval_stats (
    run_key integer NOT NULL,
    "interval" smallint NOT NULL,
    n_scored integer,
    score_mean double precision,
    score_p50 double precision,
    score_p90 double precision,
    score_max double precision,
    n_selected integer,
    cutoff double precision,
    n_entered integer,
    n_first_time integer,
    n_returned integer,
    n_stayed integer,
    n_left integer,
    jaccard double precision,
    train_loss double precision,
    n_rescored integer,
    recall_estimate double precision,
    policy_entropy double precision,
    reward_mean double precision,
    n_groups integer,
    n_without_signal integer,
    n_passed_over integer,
    n_answers bigint,
    n_correct bigint
);
CREATE TABLE public.stages (
    run_key integer NOT NULL,
    "interval" smallint NOT NULL,
    stage text NOT NULL COLLATE pg_catalog."C",
    finished_at timestamp without time zone NOT NULL,
    seconds double precision NOT NULL,
    facts text NOT NULL COLLATE pg_catalog."C"
);
CREATE VIEW public.interval_summary AS
 SELECT r.run_id,
    i."interval",
        CASE
            WHEN ((t.stage IS NOT NULL) OR ((r.trainer = 'none'::text) AND (sc.stage IS NOT NULL))) THEN 'done'::text
            ELSE 'running'::text
        END AS status,
    r.pool_size,
    i.n_scored,
    i.n_rescored,
    i.recall_estimate,
    i.n_selected,
    i.cutoff,
    i.score_mean,
    i.score_p50,
    i.score_p90,
    i.score_max,
    i.n_entered,
    i.n_first_time,
    i.n_returned,
    i.n_stayed,
    i.n_left,
    i.jaccard,
    i.train_loss,
    e.value AS metric,
    i.policy_entropy,
    i.reward_mean,
    i.n_groups,
    i.n_without_signal,
    i.n_passed_over,
    i.n_answers,
    i.n_correct,
    substr(c.weights_sha256, 1, 16) AS checkpoint_id,
    sc.seconds AS scoring_seconds,
    se.seconds AS selection_seconds,
    t.seconds AS training_seconds,
    e.seconds AS evaluation_seconds,
    f.reason AS selection_reason,
    f.facts AS selection_facts,
    f.generator AS selection_generator
   FROM (((((((public.runs r
     JOIN public.interval_stats i ON ((i.run_key = r.run_key)))
     LEFT JOIN public.selection_rules f ON (((f.run_key = i.run_key) AND (f."interval" = i."interval"))))
     LEFT JOIN public.saved_checkpoints c ON (((c.run_key = i.run_key) AND (c."interval" = i."interval"))))
     LEFT JOIN public.stages sc ON (((sc.run_key = i.run_key) AND (sc."interval" = i."interval") AND (sc.stage = 'scoring'::text))))
     LEFT JOIN public.stages se ON (((se.run_key = i.run_key) AND (se."interval" = i."interval") AND (se.stage = 'selection'::text))))
     LEFT JOIN public.stages t ON (((t.run_key = i.run_key) AND (t."interval" = i."interval") AND (t.stage = 'training'::text))))
     LEFT JOIN public.evaluation_results e ON (((e.run_key = i.run_key) AND (e."interval" = i."interval") AND (e.metric = r.metric) AND (e.category IS NULL))));
CREATE TABLE public.optimizer_steps (
    run_key integer NOT NULL,
    "interval" smallint NOT NULL,
    step integer NOT NULL,
    loss double precision NOT NULL,
    learning_rate double precision,
    grad_norm double precision,
    num_tokens bigint,
    policy_entropy double precision,
    kl double precision
);
CREATE TABLE public.rollout_groups (
    run_key integer NOT NULL,
    ordinal integer NOT NULL,
    reward_mean double precision NOT NULL,
    reward_std double precision NOT NULL,
    advantage_abs_mean double precision NOT NULL,
    step integer NOT NULL,
    n integer NOT NULL,
    n_correct integer NOT NULL,
    "interval" smallint NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C",
    n_tokens_mean double precision,
    truncated_share double precision,
    draw integer,
    slot integer
)
PARTITION BY LIST (run_id);
CREATE VIEW public.pass_rates AS
 SELECT g.run_id,
    d.dataset_id,
    g."interval",
    p.sample_id,
    (sum(g.n))::integer AS n,
    (sum(g.n_correct))::integer AS n_correct,
    ((sum(g.n_correct))::double precision / (sum(g.n))::double precision) AS pass_rate
   FROM (((public.rollout_groups g
     JOIN public.runs r ON ((r.run_id = g.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = g.ordinal))))
  GROUP BY g.run_id, d.dataset_id, g."interval", p.sample_id;
CREATE TABLE public.selected_samples (
    run_key integer NOT NULL,
    ordinal integer NOT NULL,
    score_first double precision NOT NULL,
    score_last double precision NOT NULL,
    score_sum double precision NOT NULL,
    times_selected integer NOT NULL,
    streak smallint NOT NULL,
    longest_streak smallint NOT NULL,
    first_interval smallint NOT NULL,
    last_interval smallint NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY LIST (run_id);
CREATE VIEW public.persistent_ordinals AS
 SELECT e.run_id,
    d.dataset_id,
    e.ordinal,
    e.times_selected,
    e.longest_streak,
    e.first_interval,
    e.last_interval,
    e.score_first,
    e.score_last,
    (e.score_sum / (e.times_selected)::double precision) AS score_mean
   FROM ((public.selected_samples e
     JOIN public.runs r ON ((r.run_id = e.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)));
CREATE VIEW public.persistent_samples AS
 SELECT e.run_id,
    d.dataset_id,
    p.sample_id,
    e.times_selected,
    e.longest_streak,
    e.first_interval,
    e.last_interval,
    e.score_first,
    e.score_last,
    (e.score_sum / (e.times_selected)::double precision) AS score_mean
   FROM (((public.selected_samples e
     JOIN public.runs r ON ((r.run_id = e.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = e.ordinal))));
CREATE TABLE public.rollout_answers (
    run_key integer NOT NULL,
    ordinal integer NOT NULL,
    reward double precision NOT NULL,
    step integer NOT NULL,
    draw integer NOT NULL,
    number integer NOT NULL,
    n_tokens integer NOT NULL,
    "interval" smallint NOT NULL,
    is_correct boolean NOT NULL,
    truncated boolean NOT NULL,
    answer text NOT NULL COLLATE pg_catalog."C",
    run_id text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY LIST (run_id);
CREATE TABLE public.rollout_answers_1 (
    run_key integer CONSTRAINT rollout_answers_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT rollout_answers_ordinal_not_null NOT NULL,
    reward double precision CONSTRAINT rollout_answers_reward_not_null NOT NULL,
    step integer CONSTRAINT rollout_answers_step_not_null NOT NULL,
    draw integer CONSTRAINT rollout_answers_draw_not_null NOT NULL,
    number integer CONSTRAINT rollout_answers_number_not_null NOT NULL,
    n_tokens integer CONSTRAINT rollout_answers_n_tokens_not_null NOT NULL,
    "interval" smallint CONSTRAINT rollout_answers_interval_not_null NOT NULL,
    is_correct boolean CONSTRAINT rollout_answers_is_correct_not_null NOT NULL,
    truncated boolean CONSTRAINT rollout_answers_truncated_not_null NOT NULL,
    answer text CONSTRAINT rollout_answers_answer_not_null NOT NULL COLLATE pg_catalog."C",
    run_id text CONSTRAINT rollout_answers_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.rollout_answers_2 (
    run_key integer CONSTRAINT rollout_answers_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT rollout_answers_ordinal_not_null NOT NULL,
    reward double precision CONSTRAINT rollout_answers_reward_not_null NOT NULL,
    step integer CONSTRAINT rollout_answers_step_not_null NOT NULL,
    draw integer CONSTRAINT rollout_answers_draw_not_null NOT NULL,
    number integer CONSTRAINT rollout_answers_number_not_null NOT NULL,
    n_tokens integer CONSTRAINT rollout_answers_n_tokens_not_null NOT NULL,
    "interval" smallint CONSTRAINT rollout_answers_interval_not_null NOT NULL,
    is_correct boolean CONSTRAINT rollout_answers_is_correct_not_null NOT NULL,
    truncated boolean CONSTRAINT rollout_answers_truncated_not_null NOT NULL,
    answer text CONSTRAINT rollout_answers_answer_not_null NOT NULL COLLATE pg_catalog."C",
    run_id text CONSTRAINT rollout_answers_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.rollout_groups_1 (
    run_key integer CONSTRAINT rollout_groups_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT rollout_groups_ordinal_not_null NOT NULL,
    reward_mean double precision CONSTRAINT rollout_groups_reward_mean_not_null NOT NULL,
    reward_std double precision CONSTRAINT rollout_groups_reward_std_not_null NOT NULL,
    advantage_abs_mean double precision CONSTRAINT rollout_groups_advantage_abs_mean_not_null NOT NULL,
    step integer CONSTRAINT rollout_groups_step_not_null NOT NULL,
    n integer CONSTRAINT rollout_groups_n_not_null NOT NULL,
    n_correct integer CONSTRAINT rollout_groups_n_correct_not_null NOT NULL,
    "interval" smallint CONSTRAINT rollout_groups_interval_not_null NOT NULL,
    run_id text CONSTRAINT rollout_groups_run_id_not_null NOT NULL COLLATE pg_catalog."C",
    n_tokens_mean double precision,
    truncated_share double precision,
    draw integer,
    slot integer
);
CREATE TABLE public.rollout_groups_2 (
    run_key integer CONSTRAINT rollout_groups_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT rollout_groups_ordinal_not_null NOT NULL,
    reward_mean double precision CONSTRAINT rollout_groups_reward_mean_not_null NOT NULL,
    reward_std double precision CONSTRAINT rollout_groups_reward_std_not_null NOT NULL,
    advantage_abs_mean double precision CONSTRAINT rollout_groups_advantage_abs_mean_not_null NOT NULL,
    step integer CONSTRAINT rollout_groups_step_not_null NOT NULL,
    n integer CONSTRAINT rollout_groups_n_not_null NOT NULL,
    n_correct integer CONSTRAINT rollout_groups_n_correct_not_null NOT NULL,
    "interval" smallint CONSTRAINT rollout_groups_interval_not_null NOT NULL,
    run_id text CONSTRAINT rollout_groups_run_id_not_null NOT NULL COLLATE pg_catalog."C",
    n_tokens_mean double precision,
    truncated_share double precision,
    draw integer,
    slot integer
);
CREATE VIEW public.rollout_texts AS
 SELECT a.run_id,
    d.dataset_id,
    a."interval",
    a.step,
    a.draw,
    a.number,
    p.sample_id,
    a.answer,
    a.reward,
    a.is_correct,
    a.n_tokens,
    a.truncated
   FROM (((public.rollout_answers a
     JOIN public.runs r ON ((r.run_id = a.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = a.ordinal))));
CREATE VIEW public.rollouts AS
 SELECT g.run_id,
    d.dataset_id,
    g."interval",
    g.step,
    p.sample_id,
    g.n,
    g.n_correct,
    g.reward_mean,
    g.reward_std,
    g.advantage_abs_mean,
    g.n_tokens_mean,
    g.truncated_share,
    g.draw,
    g.slot
   FROM (((public.rollout_groups g
     JOIN public.runs r ON ((r.run_id = g.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = g.ordinal))));
CREATE VIEW public.run_summary AS
 SELECT r.run_id,
    r.name,
    r.experiment,
    r.strategy,
    r.scorer,
    r.trainer,
    r.model,
    d.dataset_id,
    r.eval_dataset_id,
    r.seed,
    r.status,
    r.message,
    r.current_interval,
    r.current_stage,
    r.intervals_planned,
    ( SELECT (count(*))::integer AS count
           FROM public.stages s
          WHERE ((s.run_key = r.run_key) AND (s.stage =
                CASE r.trainer
                    WHEN 'none'::text THEN 'scoring'::text
                    ELSE 'training'::text
                END))) AS intervals_done,
    r.pool_size,
    r.top_n,
    r.metric,
    ( SELECT e.value
           FROM public.evaluation_results e
          WHERE ((e.run_key = r.run_key) AND (e.metric = r.metric) AND (e.category IS NULL) AND (e."interval" = '-1'::integer))) AS baseline_metric,
    ( SELECT e.value
           FROM public.evaluation_results e
          WHERE ((e.run_key = r.run_key) AND (e.metric = r.metric) AND (e.category IS NULL) AND (e."interval" = ( SELECT max(l."interval") AS max
                   FROM public.evaluation_results l
                  WHERE ((l.run_key = r.run_key) AND (l.metric = r.metric) AND (l.category IS NULL) AND (l."interval" >= 0)))))) AS last_metric,
    ( SELECT max(e.value) AS max
           FROM public.evaluation_results e
          WHERE ((e.run_key = r.run_key) AND (e.metric = r.metric) AND (e.category IS NULL) AND (e."interval" >= 0))) AS best_metric,
    r.created_at,
    r.finished_at,
    ( SELECT sum(s.seconds) AS sum
           FROM public.stages s
          WHERE ((s.run_key = r.run_key) AND (s.stage = 'scoring'::text))) AS scoring_seconds,
    ( SELECT sum(s.seconds) AS sum
           FROM public.stages s
          WHERE ((s.run_key = r.run_key) AND (s.stage = 'selection'::text))) AS selection_seconds,
    ( SELECT sum(s.seconds) AS sum
           FROM public.stages s
          WHERE ((s.run_key = r.run_key) AND (s.stage = 'training'::text))) AS training_seconds,
    ( SELECT sum(e.seconds) AS sum
           FROM public.evaluation_results e
          WHERE ((e.run_key = r.run_key) AND (e.category IS NULL))) AS evaluation_seconds,
    r.run_dir,
    r.lease_owner,
    r.lease_expires_at,
    ((r.plan)::json ->> 'parent_run_id'::text) AS parent_run_id,
    (((r.plan)::json ->> 'parent_interval'::text))::integer AS parent_interval,
    substr(((r.plan)::json ->> 'parent_weights_sha256'::text), 1, 16) AS parent_checkpoint_id
   FROM (public.runs r
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)));
CREATE TABLE public.sample_beliefs_1 (
    run_key integer CONSTRAINT sample_beliefs_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT sample_beliefs_ordinal_not_null NOT NULL,
    alpha double precision CONSTRAINT sample_beliefs_alpha_not_null NOT NULL,
    beta double precision CONSTRAINT sample_beliefs_beta_not_null NOT NULL,
    "interval" smallint CONSTRAINT sample_beliefs_interval_not_null NOT NULL,
    run_id text CONSTRAINT sample_beliefs_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.sample_beliefs_2 (
    run_key integer CONSTRAINT sample_beliefs_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT sample_beliefs_ordinal_not_null NOT NULL,
    alpha double precision CONSTRAINT sample_beliefs_alpha_not_null NOT NULL,
    beta double precision CONSTRAINT sample_beliefs_beta_not_null NOT NULL,
    "interval" smallint CONSTRAINT sample_beliefs_interval_not_null NOT NULL,
    run_id text CONSTRAINT sample_beliefs_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.scores (
    run_key integer CONSTRAINT scores_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT scores_ordinal_not_null1 NOT NULL,
    score double precision CONSTRAINT scores_score_not_null1 NOT NULL,
    rank integer CONSTRAINT scores_rank_not_null1 NOT NULL,
    n_tokens integer CONSTRAINT scores_n_tokens_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT scores_interval_not_null1 NOT NULL,
    scored_at_interval smallint CONSTRAINT scores_scored_at_interval_not_null1 NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY LIST (run_id);
CREATE VIEW public.sample_history AS
 SELECT s.run_id,
    d.dataset_id,
    s."interval",
    p.sample_id,
    s.score,
    s.n_tokens,
    s.rank,
    (((100)::double precision * (((i.n_scored - s.rank) + 1))::double precision) / (i.n_scored)::double precision) AS percentile,
    (x.ordinal IS NOT NULL) AS selected,
    x."position",
    x.probability,
        CASE
            WHEN (x.ordinal IS NOT NULL) THEN f.reason
            ELSE NULL::text
        END AS reason,
        CASE x.change
            WHEN 0 THEN 'first_time'::text
            WHEN 1 THEN 'returned'::text
            WHEN 2 THEN 'stayed'::text
            ELSE NULL::text
        END AS change,
    substr(c.weights_sha256, 1, 16) AS checkpoint_id,
    s.scored_at_interval
   FROM (((((((public.scores s
     JOIN public.runs r ON ((r.run_id = s.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = s.ordinal))))
     JOIN public.interval_stats i ON (((i.run_key = r.run_key) AND (i."interval" = (s."interval" + 0)))))
     LEFT JOIN public.selections x ON (((x.run_id = s.run_id) AND (x."interval" = s."interval") AND (x.ordinal = p.ordinal))))
     LEFT JOIN public.selection_rules f ON (((f.run_key = r.run_key) AND (f."interval" = s."interval"))))
     LEFT JOIN public.saved_checkpoints c ON (((c.run_key = r.run_key) AND (c."interval" = s.scored_at_interval))));
CREATE VIEW public.samples AS
 SELECT d.dataset_id,
    p.sample_id,
    p.ordinal,
    p.category,
    p.prompt,
    p.completion,
    p.answer,
    p.metadata,
    p.source,
    p.content_hash,
    p.prompt_chars,
    p.completion_chars
   FROM (public.datasets d
     JOIN public.pool_samples p ON ((p.dataset_key = d.dataset_key)));
CREATE TABLE public.score_shards (
    run_key integer NOT NULL,
    "interval" smallint NOT NULL,
    shard integer NOT NULL,
    ordinals bytea NOT NULL,
    scores bytea NOT NULL,
    n_tokens bytea NOT NULL
);
ALTER TABLE ONLY public.score_shards ALTER COLUMN ordinals SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.score_shards ALTER COLUMN scores SET STORAGE EXTERNAL;
ALTER TABLE ONLY public.score_shards ALTER COLUMN n_tokens SET STORAGE EXTERNAL;
CREATE TABLE public.scores_1 (
    run_key integer CONSTRAINT scores_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT scores_ordinal_not_null1 NOT NULL,
    score double precision CONSTRAINT scores_score_not_null1 NOT NULL,
    rank integer CONSTRAINT scores_rank_not_null1 NOT NULL,
    n_tokens integer CONSTRAINT scores_n_tokens_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT scores_interval_not_null1 NOT NULL,
    scored_at_interval smallint CONSTRAINT scores_scored_at_interval_not_null1 NOT NULL,
    run_id text CONSTRAINT scores_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.scores_2 (
    run_key integer CONSTRAINT scores_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT scores_ordinal_not_null1 NOT NULL,
    score double precision CONSTRAINT scores_score_not_null1 NOT NULL,
    rank integer CONSTRAINT scores_rank_not_null1 NOT NULL,
    n_tokens integer CONSTRAINT scores_n_tokens_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT scores_interval_not_null1 NOT NULL,
    scored_at_interval smallint CONSTRAINT scores_scored_at_interval_not_null1 NOT NULL,
    run_id text CONSTRAINT scores_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.selected_samples_1 (
    run_key integer CONSTRAINT selected_samples_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT selected_samples_ordinal_not_null NOT NULL,
    score_first double precision CONSTRAINT selected_samples_score_first_not_null NOT NULL,
    score_last double precision CONSTRAINT selected_samples_score_last_not_null NOT NULL,
    score_sum double precision CONSTRAINT selected_samples_score_sum_not_null NOT NULL,
    times_selected integer CONSTRAINT selected_samples_times_selected_not_null NOT NULL,
    streak smallint CONSTRAINT selected_samples_streak_not_null NOT NULL,
    longest_streak smallint CONSTRAINT selected_samples_longest_streak_not_null NOT NULL,
    first_interval smallint CONSTRAINT selected_samples_first_interval_not_null NOT NULL,
    last_interval smallint CONSTRAINT selected_samples_last_interval_not_null NOT NULL,
    run_id text CONSTRAINT selected_samples_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.selected_samples_2 (
    run_key integer CONSTRAINT selected_samples_run_key_not_null NOT NULL,
    ordinal integer CONSTRAINT selected_samples_ordinal_not_null NOT NULL,
    score_first double precision CONSTRAINT selected_samples_score_first_not_null NOT NULL,
    score_last double precision CONSTRAINT selected_samples_score_last_not_null NOT NULL,
    score_sum double precision CONSTRAINT selected_samples_score_sum_not_null NOT NULL,
    times_selected integer CONSTRAINT selected_samples_times_selected_not_null NOT NULL,
    streak smallint CONSTRAINT selected_samples_streak_not_null NOT NULL,
    longest_streak smallint CONSTRAINT selected_samples_longest_streak_not_null NOT NULL,
    first_interval smallint CONSTRAINT selected_samples_first_interval_not_null NOT NULL,
    last_interval smallint CONSTRAINT selected_samples_last_interval_not_null NOT NULL,
    run_id text CONSTRAINT selected_samples_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.selections_1 (
    run_key integer CONSTRAINT selections_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT selections_ordinal_not_null1 NOT NULL,
    score double precision CONSTRAINT selections_score_not_null1 NOT NULL,
    probability double precision,
    "position" integer CONSTRAINT selections_position_not_null1 NOT NULL,
    rank integer CONSTRAINT selections_rank_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT selections_interval_not_null1 NOT NULL,
    change smallint CONSTRAINT selections_change_not_null1 NOT NULL,
    times_selected smallint CONSTRAINT selections_times_selected_not_null1 NOT NULL,
    streak smallint CONSTRAINT selections_streak_not_null1 NOT NULL,
    run_id text CONSTRAINT selections_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.selections_2 (
    run_key integer CONSTRAINT selections_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT selections_ordinal_not_null1 NOT NULL,
    score double precision CONSTRAINT selections_score_not_null1 NOT NULL,
    probability double precision,
    "position" integer CONSTRAINT selections_position_not_null1 NOT NULL,
    rank integer CONSTRAINT selections_rank_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT selections_interval_not_null1 NOT NULL,
    change smallint CONSTRAINT selections_change_not_null1 NOT NULL,
    times_selected smallint CONSTRAINT selections_times_selected_not_null1 NOT NULL,
    streak smallint CONSTRAINT selections_streak_not_null1 NOT NULL,
    run_id text CONSTRAINT selections_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE VIEW public.skipped_rows AS
 SELECT d.dataset_id,
    b.source,
    b.problem
   FROM (public.datasets d
     JOIN public.bad_rows b ON ((b.dataset_key = d.dataset_key)));
CREATE TABLE public.step_slots (
    run_key integer CONSTRAINT step_slots_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT step_slots_ordinal_not_null1 NOT NULL,
    step integer CONSTRAINT step_slots_step_not_null1 NOT NULL,
    slot integer CONSTRAINT step_slots_slot_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT step_slots_interval_not_null1 NOT NULL,
    run_id text NOT NULL COLLATE pg_catalog."C"
)
PARTITION BY LIST (run_id);
CREATE VIEW public.step_samples AS
 SELECT t.run_id,
    d.dataset_id,
    t."interval",
    t.step,
    t.slot,
    p.sample_id
   FROM (((public.step_slots t
     JOIN public.runs r ON ((r.run_id = t.run_id)))
     JOIN public.datasets d ON ((d.dataset_key = r.dataset_key)))
     JOIN public.pool_samples p ON (((p.dataset_key = r.dataset_key) AND (p.ordinal = t.ordinal))));
CREATE TABLE public.step_slots_1 (
    run_key integer CONSTRAINT step_slots_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT step_slots_ordinal_not_null1 NOT NULL,
    step integer CONSTRAINT step_slots_step_not_null1 NOT NULL,
    slot integer CONSTRAINT step_slots_slot_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT step_slots_interval_not_null1 NOT NULL,
    run_id text CONSTRAINT step_slots_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.step_slots_2 (
    run_key integer CONSTRAINT step_slots_run_key_not_null1 NOT NULL,
    ordinal integer CONSTRAINT step_slots_ordinal_not_null1 NOT NULL,
    step integer CONSTRAINT step_slots_step_not_null1 NOT NULL,
    slot integer CONSTRAINT step_slots_slot_not_null1 NOT NULL,
    "interval" smallint CONSTRAINT step_slots_interval_not_null1 NOT NULL,
    run_id text CONSTRAINT step_slots_run_id_not_null NOT NULL COLLATE pg_catalog."C"
);
CREATE VIEW public.training_steps AS
 SELECT r.run_id,
    o."interval",
    o.step,
    o.loss,
    o.learning_rate,
    o.grad_norm,
    o.num_tokens,
    o.policy_entropy,
    o.kl
   FROM (public.runs r
     JOIN public.optimizer_steps o ON ((o.run_key = r.run_key)));
CREATE VIEW public.turnover AS
 SELECT r.run_id,
    i."interval",
    i.n_selected,
    i.n_entered,
    i.n_first_time,
    i.n_returned,
    i.n_stayed,
    i.n_left,
    i.jaccard
   FROM (public.runs r
     JOIN public.interval_stats i ON ((i.run_key = r.run_key)))
  WHERE (i.n_selected IS NOT NULL);
ALTER TABLE ONLY public.rollout_answers ATTACH PARTITION public.rollout_answers_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.rollout_answers ATTACH PARTITION public.rollout_answers_2 FOR VALUES IN ('half-scored-1');
ALTER TABLE ONLY public.rollout_groups ATTACH PARTITION public.rollout_groups_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.rollout_groups ATTACH PARTITION public.rollout_groups_2 FOR VALUES IN ('half-scored-1');
ALTER TABLE ONLY public.sample_beliefs ATTACH PARTITION public.sample_beliefs_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.sample_beliefs ATTACH PARTITION public.sample_beliefs_2 FOR VALUES IN ('half-scored-1');
ALTER TABLE ONLY public.scores ATTACH PARTITION public.scores_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.scores ATTACH PARTITION public.scores_2 FOR VALUES IN ('half-scored-1');
ALTER TABLE ONLY public.selected_samples ATTACH PARTITION public.selected_samples_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.selected_samples ATTACH PARTITION public.selected_samples_2 FOR VALUES IN ('half-scored-1');
ALTER TABLE ONLY public.selections ATTACH PARTITION public.selections_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.selections ATTACH PARTITION public.selections_2 FOR VALUES IN ('half-scored-1');
ALTER TABLE ONLY public.step_slots ATTACH PARTITION public.step_slots_1 FOR VALUES IN ('finished-1');
ALTER TABLE ONLY public.step_slots ATTACH PARTITION public.step_slots_2 FOR VALUES IN ('half-scored-1');
INSERT INTO public.alembic_version VALUES ('0005');
INSERT INTO public.bad_rows VALUES (1, 'pool.jsonl:99', 'no completion');
INSERT INTO public.datasets VALUES (1, 'pool-a', 'pool.jsonl', 40, false, 2, '2026-11-25 08:55:54.448465', true);
INSERT INTO public.evaluation_results VALUES (1, -1, 'exact_match', NULL, 0.125, 8, 1.5);
INSERT INTO public.evaluation_results VALUES (1, -1, 'exact_match', 'a', 0.125, 5, NULL);
INSERT INTO public.evaluation_results VALUES (1, -1, 'exact_match', 'b', 0.5, 3, NULL);
INSERT INTO public.evaluation_results VALUES (1, 0, 'exact_match', NULL, 0.25, 8, 1.5);
INSERT INTO public.evaluation_results VALUES (1, 0, 'exact_match', 'a', 0.25, 5, NULL);
INSERT INTO public.evaluation_results VALUES (1, 0, 'exact_match', 'b', 0.5, 3, NULL);
INSERT INTO public.evaluation_results VALUES (1, 1, 'exact_match', NULL, 0.375, 8, 1.5);
INSERT INTO public.evaluation_results VALUES (1, 1, 'exact_match', 'a', 0.375, 5, NULL);
INSERT INTO public.evaluation_results VALUES (1, 1, 'exact_match', 'b', 0.5, 3, NULL);
INSERT INTO public.evaluation_results VALUES (1, 2, 'exact_match', NULL, 0.25, 8, 1.5);
INSERT INTO public.evaluation_results VALUES (1, 2, 'exact_match', 'a', 0.25, 5, NULL);
INSERT INTO public.evaluation_results VALUES (1, 2, 'exact_match', 'b', 0.5, 3, NULL);
INSERT INTO public.evaluation_results VALUES (2, -1, 'exact_match', NULL, 0.125, 8, 1.5);
INSERT INTO public.evaluation_results VALUES (2, -1, 'exact_match', 'a', 0.125, 5, NULL);
INSERT INTO public.evaluation_results VALUES (2, -1, 'exact_match', 'b', 0.5, 3, NULL);
INSERT INTO public.interval_stats VALUES (1, 0, 40, 1.9924999999999997, 1.7, 4.12, 5.2, 10, 0.1, 10, 10, 0, 0, 0, NULL, 1.85, 40, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.interval_stats VALUES (1, 1, 40, 1.7325, 1.55, 3.1, 5.9, 10, 0.3, 9, 9, 0, 1, 9, 0.05263157894736842, 1.85, 40, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.interval_stats VALUES (1, 2, 40, 2.185, 1.9, 3.780000000000001, 7, 10, 0.2, 7, 4, 3, 3, 7, 0.17647058823529413, 1.85, 40, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.interval_stats VALUES (2, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 0, 1, 2, 0.0001, 0.5, 100, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 0, 2, 1.9, 0.0001, NULL, 200, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 0, 3, 1.8, 0.0001, NULL, 300, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 0, 4, 1.7, 0.0001, NULL, 400, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 1, 5, 2, 0.0001, 0.5, 100, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 1, 6, 1.9, 0.0001, NULL, 200, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 1, 7, 1.8, 0.0001, NULL, 300, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 1, 8, 1.7, 0.0001, NULL, 400, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 2, 9, 2, 0.0001, 0.5, 100, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 2, 10, 1.9, 0.0001, NULL, 200, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 2, 11, 1.8, 0.0001, NULL, 300, NULL, NULL);
INSERT INTO public.optimizer_steps VALUES (1, 2, 12, 1.7, 0.0001, NULL, 400, NULL, NULL);
INSERT INTO public.pool_samples VALUES (1, 0, '00000000_0000', NULL, 'Wie groß ist ''0''?
"x"	\', '0', '0', NULL, 'pool.jsonl:1', '0000000000000000', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 1, '035e2982_0034', 'b', 'Wie groß ist ''34''?
"x"	\', '34', NULL, NULL, 'pool.jsonl:35', '0000000000000022', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 2, '08d12dfd_0013', 'b', 'Wie groß ist ''13''?
"x"	\', '13', NULL, NULL, 'pool.jsonl:14', '000000000000000d', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 3, '11a25bfa_0026', 'c', 'Wie groß ist ''26''?
"x"	\', '26', NULL, NULL, 'pool.jsonl:27', '000000000000001a', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 4, '17156075_0005', NULL, 'Wie groß ist ''5''?
"x"	\', '5', NULL, NULL, 'pool.jsonl:6', '0000000000000005', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 5, '1a7389f7_0039', 'a', 'Wie groß ist ''39''?
"x"	\', '39', '39', NULL, 'pool.jsonl:40', '0000000000000027', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 6, '1fe68e72_0018', 'a', 'Wie groß ist ''18''?
"x"	\', '18', '18', NULL, 'pool.jsonl:19', '0000000000000012', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 7, '28b7bc6f_0031', 'b', 'Wie groß ist ''31''?
"x"	\', '31', NULL, NULL, 'pool.jsonl:32', '000000000000001f', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 8, '2e2ac0ea_0010', NULL, 'Wie groß ist ''10''?
"x"	\', '10', NULL, NULL, 'pool.jsonl:11', '000000000000000a', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 9, '36fbeee7_0023', 'c', 'Wie groß ist ''23''?
"x"	\', '23', NULL, NULL, 'pool.jsonl:24', '0000000000000017', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 10, '3c6ef362_0002', 'c', 'Wie groß ist ''2''?
"x"	\', '2', NULL, NULL, 'pool.jsonl:3', '0000000000000002', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 11, '3fcd1ce4_0036', 'a', 'Wie groß ist ''36''?
"x"	\', '36', '36', NULL, 'pool.jsonl:37', '0000000000000024', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 12, '4540215f_0015', NULL, 'Wie groß ist ''15''?
"x"	\', '15', '15', NULL, 'pool.jsonl:16', '000000000000000f', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 13, '4e114f5c_0028', 'b', 'Wie groß ist ''28''?
"x"	\', '28', NULL, NULL, 'pool.jsonl:29', '000000000000001c', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 14, '538453d7_0007', 'b', 'Wie groß ist ''7''?
"x"	\', '7', NULL, NULL, 'pool.jsonl:8', '0000000000000007', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 15, '5c5581d4_0020', NULL, 'Wie groß ist ''20''?
"x"	\', '20', NULL, NULL, 'pool.jsonl:21', '0000000000000014', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 16, '6526afd1_0033', 'a', 'Wie groß ist ''33''?
"x"	\', '33', '33', NULL, 'pool.jsonl:34', '0000000000000021', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 17, '6a99b44c_0012', 'a', 'Wie groß ist ''12''?
"x"	\', '12', '12', NULL, 'pool.jsonl:13', '000000000000000c', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 18, '736ae249_0025', NULL, 'Wie groß ist ''25''?
"x"	\', '25', NULL, NULL, 'pool.jsonl:26', '0000000000000019', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 19, '78dde6c4_0004', 'b', 'Wie groß ist ''4''?
"x"	\', '4', NULL, NULL, 'pool.jsonl:5', '0000000000000004', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 20, '7c3c1046_0038', 'c', 'Wie groß ist ''38''?
"x"	\', '38', NULL, NULL, 'pool.jsonl:39', '0000000000000026', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 21, '81af14c1_0017', 'c', 'Wie groß ist ''17''?
"x"	\', '17', NULL, NULL, 'pool.jsonl:18', '0000000000000011', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 22, '8a8042be_0030', NULL, 'Wie groß ist ''30''?
"x"	\', '30', '30', NULL, 'pool.jsonl:31', '000000000000001e', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 23, '8ff34739_0009', 'a', 'Wie groß ist ''9''?
"x"	\', '9', '9', NULL, 'pool.jsonl:10', '0000000000000009', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 24, '98c47536_0022', 'b', 'Wie groß ist ''22''?
"x"	\', '22', NULL, NULL, 'pool.jsonl:23', '0000000000000016', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 25, '9e3779b1_0001', 'b', 'Wie groß ist ''1''?
"x"	\', '1', NULL, NULL, 'pool.jsonl:2', '0000000000000001', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 26, 'a195a333_0035', NULL, 'Wie groß ist ''35''?
"x"	\', '35', NULL, NULL, 'pool.jsonl:36', '0000000000000023', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 27, 'a708a7ae_0014', 'c', 'Wie groß ist ''14''?
"x"	\', '14', NULL, NULL, 'pool.jsonl:15', '000000000000000e', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 28, 'afd9d5ab_0027', 'a', 'Wie groß ist ''27''?
"x"	\', '27', '27', NULL, 'pool.jsonl:28', '000000000000001b', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 29, 'b54cda26_0006', 'a', 'Wie groß ist ''6''?
"x"	\', '6', '6', NULL, 'pool.jsonl:7', '0000000000000006', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 30, 'be1e0823_0019', 'b', 'Wie groß ist ''19''?
"x"	\', '19', NULL, NULL, 'pool.jsonl:20', '0000000000000013', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 31, 'c6ef3620_0032', 'c', 'Wie groß ist ''32''?
"x"	\', '32', NULL, NULL, 'pool.jsonl:33', '0000000000000020', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 32, 'cc623a9b_0011', 'c', 'Wie groß ist ''11''?
"x"	\', '11', NULL, NULL, 'pool.jsonl:12', '000000000000000b', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 33, 'd5336898_0024', 'a', 'Wie groß ist ''24''?
"x"	\', '24', '24', NULL, 'pool.jsonl:25', '0000000000000018', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 34, 'daa66d13_0003', 'a', 'Wie groß ist ''3''?
"x"	\', '3', '3', NULL, 'pool.jsonl:4', '0000000000000003', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 35, 'de049695_0037', 'b', 'Wie groß ist ''37''?
"x"	\', '37', NULL, NULL, 'pool.jsonl:38', '0000000000000025', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 36, 'e3779b10_0016', 'b', 'Wie groß ist ''16''?
"x"	\', '16', NULL, NULL, 'pool.jsonl:17', '0000000000000010', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 37, 'ec48c90d_0029', 'c', 'Wie groß ist ''29''?
"x"	\', '29', NULL, NULL, 'pool.jsonl:30', '000000000000001d', 24, 2);
INSERT INTO public.pool_samples VALUES (1, 38, 'f1bbcd88_0008', 'c', 'Wie groß ist ''8''?
"x"	\', '8', NULL, NULL, 'pool.jsonl:9', '0000000000000008', 23, 1);
INSERT INTO public.pool_samples VALUES (1, 39, 'fa8cfb85_0021', 'a', 'Wie groß ist ''21''?
"x"	\', '21', '21', NULL, 'pool.jsonl:22', '0000000000000015', 24, 2);
INSERT INTO public.runs VALUES (1, 'finished-1', 'demo', NULL, 7, 'edco', 'prefix_entropy', 'sft', 'tiny', 1, 'eval-a', 'exact_match', 3, 40, 10, 'runs/demo-1', '{"curriculum": {"top_n": 0.25, "type": "edco"}}', '{"total_steps": 15}', '{"torch": "2.13.0"}', 'finished', NULL, NULL, NULL, '2026-11-25 08:55:54.458504', '2026-11-25 08:55:54.770758', NULL, 1, NULL, 60);
INSERT INTO public.runs VALUES (2, 'half-scored-1', 'demo', NULL, 7, 'edco', 'prefix_entropy', 'sft', 'tiny', 1, NULL, 'exact_match', 3, 40, 10, 'runs/demo-1', '{"curriculum": {"top_n": 0.25, "type": "edco"}}', '{"total_steps": 15}', '{"torch": "2.13.0"}', 'running', NULL, NULL, NULL, '2026-11-25 08:55:54.776706', NULL, 'gone', 1, '2026-11-25 08:55:54.84859', 0.001);
INSERT INTO public.saved_checkpoints VALUES (1, 0, 0, 'runs/demo-1/checkpoint-0', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-25 08:55:54.51243', NULL);
INSERT INTO public.saved_checkpoints VALUES (1, 1, 4, 'runs/demo-1/checkpoint-4', '0101010101010101010101010101010101010101010101010101010101010101', '2026-11-25 08:55:54.603311', NULL);
INSERT INTO public.saved_checkpoints VALUES (1, 2, 8, 'runs/demo-1/checkpoint-8', '0202020202020202020202020202020202020202020202020202020202020202', '2026-11-25 08:55:54.688085', NULL);
INSERT INTO public.saved_checkpoints VALUES (1, 3, 12, 'runs/demo-1/checkpoint-12', '0303030303030303030303030303030303030303030303030303030303030303', '2026-11-25 08:55:54.763206', NULL);
INSERT INTO public.saved_checkpoints VALUES (2, 0, 0, 'runs/demo-1/checkpoint-0', '0000000000000000000000000000000000000000000000000000000000000000', '2026-11-25 08:55:54.820592', NULL);
INSERT INTO public.score_shards VALUES (2, 0, 0, '\x0a0000000b0000000c0000000d0000000e0000000f00000010000000110000001200000013000000', '\x6666666666660a409a9999999999c93f333333333333d33f9a99999999990940cdcccccccccc0040666666666666f63f333333333333fb3fcdccccccccccfc3f333333333333f33fcdccccccccccec3f', '\x04000000050000000600000007000000010000000200000003000000040000000500000006000000');
INSERT INTO public.score_shards VALUES (2, 0, 1, '\x190000001a0000001b0000001c0000001d0000001e0000001f0000002000000021000000220000002300000024000000250000002600000027000000', '\x9a99999999990140cdccccccccccec3f66666666666606409a9999999999f93f9a99999999990540000000000000e03fcdccccccccccf43f0000000000001240cdcccccccccc0440666666666666fe3f666666666666fe3fcdcccccccccc0c40cdcccccccccc1c409a9999999999d93f9a99999999990140', '\x050000000600000007000000010000000200000003000000040000000500000006000000070000000100000002000000030000000400000005000000');
INSERT INTO public.scores_1 VALUES (1, 0, 1.8, 19, 1, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 1, 2.6, 10, 2, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 2, 1.1, 26, 3, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 3, 4, 6, 4, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 4, 0.9, 32, 5, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 5, 1, 29, 6, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 6, 0.1, 40, 7, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 7, 0.5, 37, 1, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 8, 1.1, 27, 2, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 9, 2.3, 12, 3, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 10, 1.5, 23, 4, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 11, 0.9, 33, 5, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 12, 3.1, 8, 6, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 13, 0.9, 34, 7, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 14, 1.1, 28, 1, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 15, 0.7, 35, 2, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 16, 1.5, 24, 3, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 17, 2, 16, 4, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 18, 1, 30, 5, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 19, 2.9, 9, 6, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 20, 0.5, 38, 7, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 21, 4.1, 5, 1, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 22, 2, 17, 2, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 23, 4.3, 4, 3, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 24, 5.2, 1, 4, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 25, 2.2, 14, 5, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 26, 1.7, 20, 6, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 27, 0.5, 39, 7, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 28, 2.3, 13, 1, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 29, 0.6, 36, 2, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 30, 1.2, 25, 3, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 31, 5.1, 2, 4, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 32, 2.1, 15, 5, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 33, 4.7, 3, 6, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 34, 2.6, 11, 7, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 35, 1.7, 21, 1, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 36, 3.3, 7, 2, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 37, 1, 31, 3, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 38, 1.7, 22, 4, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 39, 1.9, 18, 5, 0, 0, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 0, 2.2, 9, 1, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 1, 2.1, 11, 2, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 2, 3.1, 3, 3, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 3, 1.1, 26, 4, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 4, 2.2, 10, 5, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 5, 1.7, 17, 6, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 6, 0.9, 31, 7, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 7, 1.1, 27, 1, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 8, 1.7, 18, 2, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 9, 0.8, 33, 3, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 10, 1.7, 19, 4, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 11, 4, 2, 5, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 12, 1.5, 21, 6, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 13, 2, 12, 7, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 14, 1.5, 22, 1, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 15, 0.6, 36, 2, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 16, 5.9, 1, 3, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 17, 2.7, 8, 4, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 18, 0.3, 40, 5, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 19, 1.8, 15, 6, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 20, 0.9, 32, 7, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 21, 0.7, 35, 1, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 22, 1.8, 16, 2, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 23, 1.1, 28, 3, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 24, 3.1, 4, 4, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 25, 0.8, 34, 5, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 26, 1.1, 29, 6, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 27, 0.6, 37, 7, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 28, 1.6, 20, 1, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 29, 1.3, 23, 2, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 30, 2, 13, 3, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 31, 0.6, 38, 4, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 32, 1.1, 30, 5, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 33, 2.9, 6, 6, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 34, 2, 14, 7, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 35, 1.3, 24, 1, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 36, 2.8, 7, 2, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 37, 3.1, 5, 3, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 38, 0.4, 39, 4, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 39, 1.2, 25, 5, 1, 1, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 0, 1.9, 20, 1, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 1, 1.2, 31, 2, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 2, 5.2, 3, 3, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 3, 1.3, 28, 4, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 4, 2.1, 16, 5, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 5, 3.3, 8, 6, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 6, 1.3, 29, 7, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 7, 2.3, 14, 1, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 8, 2.5, 13, 2, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 9, 1.8, 22, 3, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 10, 3, 9, 4, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 11, 2.1, 17, 5, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 12, 0.7, 36, 6, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 13, 6, 2, 7, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 14, 0.3, 39, 1, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 15, 3, 10, 2, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 16, 3.5, 6, 3, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 17, 2, 18, 4, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 18, 1.5, 25, 5, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 19, 0.6, 37, 6, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 20, 2, 19, 7, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 21, 0.9, 33, 1, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 22, 1, 32, 2, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 23, 1.4, 26, 3, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 24, 0.2, 40, 4, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 25, 3.4, 7, 5, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 26, 1.9, 21, 6, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 27, 1.8, 23, 7, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 28, 7, 1, 1, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 29, 1.3, 30, 2, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 30, 2.7, 11, 3, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 31, 1.4, 27, 4, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 32, 2.7, 12, 5, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 33, 0.4, 38, 6, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 34, 3.7, 5, 7, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 35, 4.5, 4, 1, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 36, 0.9, 34, 2, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 37, 1.6, 24, 3, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 38, 0.8, 35, 4, 2, 2, 'finished-1');
INSERT INTO public.scores_1 VALUES (1, 39, 2.2, 15, 5, 2, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 4, 0.9, 0.9, 0.9, 1, 1, 1, 0, 0, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 6, 0.1, 0.1, 0.1, 1, 1, 1, 0, 0, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 26, 1.7, 1.7, 1.7, 1, 1, 1, 0, 0, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 30, 1.2, 1.2, 1.2, 1, 1, 1, 0, 0, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 33, 4.7, 4.7, 4.7, 1, 1, 1, 0, 0, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 37, 1, 1, 1, 1, 1, 1, 0, 0, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 16, 1.5, 5.9, 7.4, 2, 2, 2, 0, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 0, 2.2, 2.2, 2.2, 1, 1, 1, 1, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 2, 3.1, 3.1, 3.1, 1, 1, 1, 1, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 10, 1.7, 1.7, 1.7, 1, 1, 1, 1, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 11, 4, 4, 4, 1, 1, 1, 1, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 13, 2, 2, 2, 1, 1, 1, 1, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 18, 0.3, 0.3, 0.3, 1, 1, 1, 1, 1, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 31, 5.1, 1.4, 6.5, 2, 1, 1, 0, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 35, 1.7, 4.5, 6.2, 2, 1, 1, 0, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 38, 1.7, 0.8, 2.5, 2, 1, 1, 0, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 1, 2.1, 1.2, 3.3, 2, 2, 2, 1, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 3, 1.1, 1.3, 2.4000000000000004, 2, 2, 2, 1, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 7, 1.1, 2.3, 3.4, 2, 2, 2, 1, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 12, 0.7, 0.7, 0.7, 1, 1, 1, 2, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 21, 0.9, 0.9, 0.9, 1, 1, 1, 2, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 24, 0.2, 0.2, 0.2, 1, 1, 1, 2, 2, 'finished-1');
INSERT INTO public.selected_samples_1 VALUES (1, 28, 7, 7, 7, 1, 1, 1, 2, 2, 'finished-1');
INSERT INTO public.selection_rules VALUES (1, 0, 'tempered_draw', 0.1, '{"temperature": 1.0, "top_n": 10}', '{"entropy": [1, 2], "seed": 7}', NULL);
INSERT INTO public.selection_rules VALUES (1, 1, 'tempered_draw', 0.3, '{"temperature": 1.0, "top_n": 10}', '{"entropy": [1, 2], "seed": 7}', NULL);
INSERT INTO public.selection_rules VALUES (1, 2, 'tempered_draw', 0.2, '{"temperature": 1.0, "top_n": 10}', '{"entropy": [1, 2], "seed": 7}', NULL);
INSERT INTO public.selections_1 VALUES (1, 4, 0.9, 0.011292346298619827, 0, 32, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 6, 0.1, 0.001254705144291092, 9, 40, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 16, 1.5, 0.018820577164366376, 5, 24, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 26, 1.7, 0.02132998745294856, 8, 20, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 30, 1.2, 0.0150564617314931, 3, 25, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 31, 5.1, 0.06398996235884567, 2, 2, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 33, 4.7, 0.058971141781681315, 6, 3, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 35, 1.7, 0.02132998745294856, 4, 21, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 37, 1, 0.012547051442910918, 1, 31, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 38, 1.7, 0.02132998745294856, 7, 22, 0, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 0, 2.2, 0.03174603174603175, 2, 9, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 1, 2.1, 0.030303030303030304, 5, 11, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 2, 3.1, 0.044733044733044736, 3, 3, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 3, 1.1, 0.015873015873015876, 9, 26, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 7, 1.1, 0.015873015873015876, 8, 27, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 10, 1.7, 0.024531024531024532, 4, 19, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 11, 4, 0.05772005772005772, 7, 2, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 13, 2, 0.02886002886002886, 6, 12, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 16, 5.9, 0.08513708513708515, 1, 1, 1, 2, 2, 2, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 18, 0.3, 0.004329004329004329, 0, 40, 1, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 1, 1.2, 0.013729977116704805, 2, 31, 2, 2, 2, 2, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 3, 1.3, 0.014874141876430205, 0, 28, 2, 2, 2, 2, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 7, 2.3, 0.026315789473684206, 1, 14, 2, 2, 2, 2, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 12, 0.7, 0.008009153318077802, 5, 36, 2, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 21, 0.9, 0.010297482837528604, 4, 33, 2, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 24, 0.2, 0.002288329519450801, 7, 40, 2, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 28, 7, 0.08009153318077802, 8, 1, 2, 0, 1, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 31, 1.4, 0.016018306636155603, 6, 27, 2, 1, 2, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 35, 4.5, 0.051487414187643014, 9, 4, 2, 1, 2, 1, 'finished-1');
INSERT INTO public.selections_1 VALUES (1, 38, 0.8, 0.009153318077803204, 3, 35, 2, 1, 2, 1, 'finished-1');
INSERT INTO public.stages VALUES (1, 0, 'checkpoint', '2026-11-25 08:55:54.516486', 0.25, '{}');
INSERT INTO public.stages VALUES (1, 0, 'scoring', '2026-11-25 08:55:54.563405', 2.5, '{}');
INSERT INTO public.stages VALUES (1, 0, 'selection', '2026-11-25 08:55:54.586415', 0.5, '{}');
INSERT INTO public.stages VALUES (1, 0, 'training', '2026-11-25 08:55:54.603791', 4.5, '{}');
INSERT INTO public.stages VALUES (1, 1, 'checkpoint', '2026-11-25 08:55:54.616225', 0.25, '{}');
INSERT INTO public.stages VALUES (1, 1, 'scoring', '2026-11-25 08:55:54.647667', 2.5, '{}');
INSERT INTO public.stages VALUES (1, 1, 'selection', '2026-11-25 08:55:54.667419', 0.5, '{}');
INSERT INTO public.stages VALUES (1, 1, 'training', '2026-11-25 08:55:54.688568', 4.5, '{}');
INSERT INTO public.stages VALUES (1, 2, 'checkpoint', '2026-11-25 08:55:54.700301', 0.25, '{}');
INSERT INTO public.stages VALUES (1, 2, 'scoring', '2026-11-25 08:55:54.728205', 2.5, '{}');
INSERT INTO public.stages VALUES (1, 2, 'selection', '2026-11-25 08:55:54.746925', 0.5, '{}');
INSERT INTO public.stages VALUES (1, 2, 'training', '2026-11-25 08:55:54.763716', 4.5, '{}');
INSERT INTO public.stages VALUES (2, 0, 'checkpoint', '2026-11-25 08:55:54.821488', 0.25, '{}');
INSERT INTO public.step_slots_1 VALUES (1, 4, 1, 0, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 37, 1, 1, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 31, 1, 2, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 30, 2, 0, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 35, 2, 1, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 16, 2, 2, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 33, 3, 0, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 38, 3, 1, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 26, 3, 2, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 6, 4, 0, 0, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 18, 5, 0, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 16, 5, 1, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 0, 5, 2, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 2, 6, 0, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 10, 6, 1, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 1, 6, 2, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 13, 7, 0, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 11, 7, 1, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 7, 7, 2, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 3, 8, 0, 1, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 3, 9, 0, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 7, 9, 1, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 1, 9, 2, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 38, 10, 0, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 21, 10, 1, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 12, 10, 2, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 31, 11, 0, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 24, 11, 1, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 28, 11, 2, 2, 'finished-1');
INSERT INTO public.step_slots_1 VALUES (1, 35, 12, 0, 2, 'finished-1');
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.datasets
    ADD CONSTRAINT datasets_dataset_id_key UNIQUE (dataset_id);
ALTER TABLE ONLY public.datasets
    ADD CONSTRAINT datasets_pkey PRIMARY KEY (dataset_key);
ALTER TABLE ONLY public.interval_stats
    ADD CONSTRAINT interval_stats_pkey PRIMARY KEY (run_key, "interval");
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (run_key);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_run_id_key UNIQUE (run_id);
ALTER TABLE ONLY public.saved_checkpoints
    ADD CONSTRAINT saved_checkpoints_pkey PRIMARY KEY (run_key, "interval");
ALTER TABLE ONLY public.score_shards
    ADD CONSTRAINT score_shards_pkey PRIMARY KEY (run_key, "interval", shard);
ALTER TABLE ONLY public.selection_rules
    ADD CONSTRAINT selection_rules_pkey PRIMARY KEY (run_key, "interval");
ALTER TABLE ONLY public.stages
    ADD CONSTRAINT stages_pkey PRIMARY KEY (run_key, "interval", stage);
CREATE INDEX evaluation_results_run_key_interval_idx ON public.evaluation_results USING btree (run_key, "interval");
CREATE INDEX optimizer_steps_run_key_step_idx ON public.optimizer_steps USING btree (run_key, step);
CREATE UNIQUE INDEX pool_samples_dataset_key_ordinal_idx ON public.pool_samples USING btree (dataset_key, ordinal);
CREATE UNIQUE INDEX pool_samples_dataset_key_sample_id_idx ON public.pool_samples USING btree (dataset_key, sample_id);
CREATE INDEX rollout_answers_ordinal_idx ON ONLY public.rollout_answers USING btree (ordinal);
CREATE INDEX rollout_answers_1_ordinal_idx ON public.rollout_answers_1 USING btree (ordinal);
CREATE INDEX rollout_answers_2_ordinal_idx ON public.rollout_answers_2 USING btree (ordinal);
CREATE INDEX rollout_groups_ordinal_idx ON ONLY public.rollout_groups USING btree (ordinal);
CREATE INDEX rollout_groups_1_ordinal_idx ON public.rollout_groups_1 USING btree (ordinal);
CREATE INDEX rollout_groups_step_idx ON ONLY public.rollout_groups USING brin (step);
CREATE INDEX rollout_groups_1_step_idx ON public.rollout_groups_1 USING brin (step);
CREATE INDEX rollout_groups_2_ordinal_idx ON public.rollout_groups_2 USING btree (ordinal);
CREATE INDEX rollout_groups_2_step_idx ON public.rollout_groups_2 USING brin (step);
CREATE INDEX sample_beliefs_ordinal_idx ON ONLY public.sample_beliefs USING btree (ordinal);
CREATE INDEX sample_beliefs_1_ordinal_idx ON public.sample_beliefs_1 USING btree (ordinal);
CREATE INDEX sample_beliefs_2_ordinal_idx ON public.sample_beliefs_2 USING btree (ordinal);
CREATE INDEX scores_interval_ordinal_idx ON ONLY public.scores USING brin ("interval", ordinal) WITH (pages_per_range='16');
CREATE INDEX scores_1_interval_ordinal_idx ON public.scores_1 USING brin ("interval", ordinal) WITH (pages_per_range='16');
CREATE INDEX scores_2_interval_ordinal_idx ON public.scores_2 USING brin ("interval", ordinal) WITH (pages_per_range='16');
CREATE INDEX selected_samples_ordinal_idx ON ONLY public.selected_samples USING brin (ordinal) WITH (pages_per_range='64');
CREATE INDEX selected_samples_1_ordinal_idx ON public.selected_samples_1 USING brin (ordinal) WITH (pages_per_range='64');
CREATE INDEX selected_samples_times_selected_longest_streak_idx ON ONLY public.selected_samples USING btree (times_selected, longest_streak);
CREATE INDEX selected_samples_1_times_selected_longest_streak_idx ON public.selected_samples_1 USING btree (times_selected, longest_streak);
CREATE INDEX selected_samples_2_ordinal_idx ON public.selected_samples_2 USING brin (ordinal) WITH (pages_per_range='64');
CREATE INDEX selected_samples_2_times_selected_longest_streak_idx ON public.selected_samples_2 USING btree (times_selected, longest_streak);
CREATE INDEX selections_interval_ordinal_idx ON ONLY public.selections USING brin ("interval", ordinal) WITH (pages_per_range='16');
CREATE INDEX selections_1_interval_ordinal_idx ON public.selections_1 USING brin ("interval", ordinal) WITH (pages_per_range='16');
CREATE INDEX selections_2_interval_ordinal_idx ON public.selections_2 USING brin ("interval", ordinal) WITH (pages_per_range='16');
CREATE INDEX step_slots_ordinal_idx ON ONLY public.step_slots USING btree (ordinal);
CREATE INDEX step_slots_1_ordinal_idx ON public.step_slots_1 USING btree (ordinal);
CREATE INDEX step_slots_step_idx ON ONLY public.step_slots USING brin (step);
CREATE INDEX step_slots_1_step_idx ON public.step_slots_1 USING brin (step);
CREATE INDEX step_slots_2_ordinal_idx ON public.step_slots_2 USING btree (ordinal);
CREATE INDEX step_slots_2_step_idx ON public.step_slots_2 USING brin (step);
ALTER INDEX public.rollout_answers_ordinal_idx ATTACH PARTITION public.rollout_answers_1_ordinal_idx;
ALTER INDEX public.rollout_answers_ordinal_idx ATTACH PARTITION public.rollout_answers_2_ordinal_idx;
ALTER INDEX public.rollout_groups_ordinal_idx ATTACH PARTITION public.rollout_groups_1_ordinal_idx;
ALTER INDEX public.rollout_groups_step_idx ATTACH PARTITION public.rollout_groups_1_step_idx;
ALTER INDEX public.rollout_groups_ordinal_idx ATTACH PARTITION public.rollout_groups_2_ordinal_idx;
ALTER INDEX public.rollout_groups_step_idx ATTACH PARTITION public.rollout_groups_2_step_idx;
ALTER INDEX public.sample_beliefs_ordinal_idx ATTACH PARTITION public.sample_beliefs_1_ordinal_idx;
ALTER INDEX public.sample_beliefs_ordinal_idx ATTACH PARTITION public.sample_beliefs_2_ordinal_idx;
ALTER INDEX public.scores_interval_ordinal_idx ATTACH PARTITION public.scores_1_interval_ordinal_idx;
ALTER INDEX public.scores_interval_ordinal_idx ATTACH PARTITION public.scores_2_interval_ordinal_idx;
ALTER INDEX public.selected_samples_ordinal_idx ATTACH PARTITION public.selected_samples_1_ordinal_idx;
ALTER INDEX public.selected_samples_times_selected_longest_streak_idx ATTACH PARTITION public.selected_samples_1_times_selected_longest_streak_idx;
ALTER INDEX public.selected_samples_ordinal_idx ATTACH PARTITION public.selected_samples_2_ordinal_idx;
ALTER INDEX public.selected_samples_times_selected_longest_streak_idx ATTACH PARTITION public.selected_samples_2_times_selected_longest_streak_idx;
ALTER INDEX public.selections_interval_ordinal_idx ATTACH PARTITION public.selections_1_interval_ordinal_idx;
ALTER INDEX public.selections_interval_ordinal_idx ATTACH PARTITION public.selections_2_interval_ordinal_idx;
ALTER INDEX public.step_slots_ordinal_idx ATTACH PARTITION public.step_slots_1_ordinal_idx;
ALTER INDEX public.step_slots_step_idx ATTACH PARTITION public.step_slots_1_step_idx;
ALTER INDEX public.step_slots_ordinal_idx ATTACH PARTITION public.step_slots_2_ordinal_idx;
ALTER INDEX public.step_slots_step_idx ATTACH PARTITION public.step_slots_2_step_idx;
