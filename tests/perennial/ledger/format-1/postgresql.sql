-- A ledger as version 0.1 of the product made it; numbers 12 and 13 were of a transaction that failed.
CREATE FUNCTION public.events_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$BEGIN RAISE EXCEPTION 'the ledger is append-only'; END$$;
CREATE TABLE public.events (
    number integer NOT NULL,
    at character varying(32) NOT NULL,
    kind character varying(32) NOT NULL,
    run character varying(64),
    key character varying(256),
    body text NOT NULL
);
CREATE SEQUENCE public.events_number_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_number_seq OWNED BY public.events.number;
ALTER TABLE ONLY public.events ALTER COLUMN number SET DEFAULT nextval('public.events_number_seq'::regclass);
INSERT INTO public.events VALUES (1, '2026-11-28T01:08:02.851+00:00', 'run_started', '20260101-020000-aa01', 'run-started:20260101-020000-aa01', '{"selection":{"run":"20260101-020000-aa01","window":[{"name":"2026-01-01","version":1,"uri":"data/2026-01-01.parquet","fingerprint":"f1","same_as":null}],"new_spans":["2026-01-01"],"released":[],"instances":[],"data_digest":"d","rules_digest":"","checks_digest":"c","project_digest":"p","schema_digest":"s","tuned":null,"tune_reason":"","attempt":0,"seed":1,"served":"","stages":null,"resumes":null,"champion":null,"former":[],"git_commit":null}}');
INSERT INTO public.events VALUES (2, '2026-11-28T01:08:02.852+00:00', 'registration_begun', '20260101-020000-aa01', NULL, '{"digest":"digest-1"}');
INSERT INTO public.events VALUES (3, '2026-11-28T01:08:02.853+00:00', 'decision', '20260101-020000-aa01', 'decision:20260101-020000-aa01', '{"decision":{"promote":true,"criteria":[],"reasons":["„Größe“ ≥ 3 % ''quoted'' 😀"],"not_compared":[]},"version":"1","digest":"digest-1"}');
INSERT INTO public.events VALUES (4, '2026-11-28T01:08:02.856+00:00', 'deployment', '20260101-020000-aa01', 'deployment-after:None', '{"version":"1","digest":"digest-1","action":"push","by":"a test","why":"a test","replaces":null}');
INSERT INTO public.events VALUES (5, '2026-11-28T01:08:02.857+00:00', 'span_accepted', '20260101-020000-aa01', 'span_accepted:2026-01-01@f1', '{"span":{"name":"2026-01-01","version":1,"uri":"data/2026-01-01.parquet","fingerprint":"f1","same_as":null},"rows":3,"reasons":[],"set_aside":0,"readable":true,"by":null}');
INSERT INTO public.events VALUES (6, '2026-11-28T01:08:02.857+00:00', 'run_ended', '20260101-020000-aa01', 'run-ended:20260101-020000-aa01', '{"outcome":"promoted","reasons":["a reason"],"window":[],"new_spans":[],"version":null,"champion":null,"report":null,"warned":0,"not_compared":0,"warnings":[]}');
INSERT INTO public.events VALUES (7, '2026-11-28T01:08:02.859+00:00', 'run_started', '20260102-020000-bb02', 'run-started:20260102-020000-bb02', '{"selection":{"run":"20260102-020000-bb02","window":[{"name":"2026-01-01","version":1,"uri":"data/2026-01-01.parquet","fingerprint":"f1","same_as":null},{"name":"2026-01-02","version":1,"uri":"data/2026-01-02.parquet","fingerprint":"f2","same_as":null}],"new_spans":["2026-01-01","2026-01-02"],"released":[],"instances":[],"data_digest":"d","rules_digest":"","checks_digest":"c","project_digest":"p","schema_digest":"s","tuned":null,"tune_reason":"","attempt":0,"seed":1,"served":"","stages":null,"resumes":null,"champion":{"version":"1","digest":"digest-1","deployment":4},"former":[],"git_commit":null}}');
INSERT INTO public.events VALUES (8, '2026-11-28T01:08:02.860+00:00', 'span_quarantined', '20260102-020000-bb02', 'span_quarantined:2026-01-02@f2', '{"span":{"name":"2026-01-02","version":1,"uri":"data/2026-01-02.parquet","fingerprint":"f2","same_as":null},"rows":3,"reasons":["a reason"],"set_aside":0,"readable":true,"by":null}');
INSERT INTO public.events VALUES (9, '2026-11-28T01:08:02.860+00:00', 'run_ended', '20260102-020000-bb02', 'run-ended:20260102-020000-bb02', '{"outcome":"data_rejected","reasons":["a reason"],"window":[],"new_spans":[],"version":null,"champion":null,"report":null,"warned":0,"not_compared":0,"warnings":[]}');
INSERT INTO public.events VALUES (10, '2026-11-28T01:08:02.861+00:00', 'span_released', NULL, 'span-decision-after:8', '{"span":{"name":"2026-01-02","version":1,"uri":"data/2026-01-02.parquet","fingerprint":"f2","same_as":null},"rows":3,"reasons":["looked at it"],"set_aside":0,"readable":true,"by":"user ada"}');
INSERT INTO public.events VALUES (11, '2026-11-28T01:08:02.862+00:00', 'schema_accepted', NULL, 'schema:t', '{"before":"s","after":"t","changes":["+ colour"],"by":"user ada","why":"a new column"}');
INSERT INTO public.events VALUES (14, '2026-11-28T01:08:02.862+00:00', 'run_started', '20260103-020000-cc03', 'run-started:20260103-020000-cc03', '{"selection":{"run":"20260103-020000-cc03","window":[{"name":"2026-01-01","version":1,"uri":"data/2026-01-01.parquet","fingerprint":"f1","same_as":null}],"new_spans":["2026-01-01"],"released":[],"instances":[],"data_digest":"d","rules_digest":"","checks_digest":"c","project_digest":"p","schema_digest":"s","tuned":null,"tune_reason":"","attempt":0,"seed":1,"served":"","stages":null,"resumes":null,"champion":null,"former":[],"git_commit":null}}');
SELECT pg_catalog.setval('public.events_number_seq', 14, true);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_key_key UNIQUE (key);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (number);
CREATE TRIGGER events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.events FOR EACH STATEMENT EXECUTE FUNCTION public.events_append_only();
