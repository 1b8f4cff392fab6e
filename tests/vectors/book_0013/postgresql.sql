-- A book of schema 0013, as the code of commit 07559d4 wrote it: two tenants, 36 hours of work settled, a block, a payout
-- that is sent and one that is approved, an upstream, an order, and two batches that the journal had not folded.
-- Made by its own functions (tests/statement_history.py and tests/test_journal.py of then); this is what pg_dump --inserts says of it.
CREATE FUNCTION public.angara_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.block_events (
    block_hash text NOT NULL,
    "position" bigint NOT NULL,
    status text NOT NULL,
    at_s bigint NOT NULL,
    transaction_seq bigint,
    CONSTRAINT ck_block_events_status CHECK ((status = ANY (ARRAY['found'::text, 'pending'::text, 'matured'::text, 'orphaned'::text])))
);
CREATE TABLE public.blocks (
    hash text NOT NULL,
    height bigint NOT NULL,
    worker_id bigint,
    income_sat bigint NOT NULL,
    found_at_s bigint NOT NULL,
    CONSTRAINT ck_blocks_income_sat CHECK (((height >= 0) AND (income_sat >= 0)))
);
CREATE TABLE public.book (
    id bigint NOT NULL,
    network text,
    genesis text,
    signet_challenge text,
    latest_s bigint NOT NULL,
    ordered_from_seq bigint NOT NULL,
    based_from_rate bigint NOT NULL,
    lease_epoch bigint NOT NULL,
    lease_holder text,
    ordered_from_s bigint DEFAULT 0 NOT NULL,
    CONSTRAINT ck_book_genesis CHECK (((network IS NULL) = (genesis IS NULL))),
    CONSTRAINT ck_book_id CHECK ((id = 1)),
    CONSTRAINT ck_book_latest_s CHECK ((latest_s >= 0)),
    CONSTRAINT ck_book_lease_epoch CHECK ((lease_epoch >= 0)),
    CONSTRAINT ck_book_signet_challenge CHECK (((signet_challenge IS NULL) OR (network = 'signet'::text)))
);
CREATE SEQUENCE public.book_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.book_id_seq OWNED BY public.book.id;
CREATE TABLE public.channel_events (
    id bigint NOT NULL,
    at_s bigint NOT NULL,
    upstream_id bigint NOT NULL,
    order_id bigint,
    event text NOT NULL,
    words text NOT NULL,
    sessions bigint NOT NULL,
    CONSTRAINT ck_channel_events_event CHECK ((event = ANY (ARRAY['served'::text, 'lost'::text, 'fell_back'::text, 'returned'::text, 'switched'::text]))),
    CONSTRAINT ck_channel_events_sessions CHECK ((sessions >= 0))
);
CREATE SEQUENCE public.channel_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.channel_events_id_seq OWNED BY public.channel_events.id;
CREATE TABLE public.confirmations (
    proposal_id bigint NOT NULL,
    confirmed_by text NOT NULL,
    confirmed_at_s bigint NOT NULL,
    transaction_seq bigint
);
CREATE TABLE public.containers (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    name text NOT NULL,
    site_id bigint,
    nameplate_units bigint,
    nameplate_ths bigint,
    nameplate_kw bigint,
    created_at_s bigint NOT NULL,
    removed_at_s bigint
);
CREATE SEQUENCE public.containers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.containers_id_seq OWNED BY public.containers.id;
CREATE TABLE public.fee_bases (
    id bigint NOT NULL,
    block_fees_sat bigint NOT NULL,
    created_at_s bigint NOT NULL,
    CONSTRAINT ck_fee_bases_block_fees_sat CHECK ((block_fees_sat >= 0))
);
CREATE TABLE public.fee_basis_blocks (
    fee_basis_id bigint NOT NULL,
    block_hash text NOT NULL,
    height bigint NOT NULL,
    fees_sat bigint NOT NULL,
    CONSTRAINT ck_fee_basis_blocks_fees_sat CHECK ((fees_sat >= 0))
);
CREATE TABLE public.journal_batches (
    seq bigint NOT NULL,
    minute bigint NOT NULL,
    tallies bytea NOT NULL,
    upstream bytea,
    names bytea,
    CONSTRAINT ck_journal_batches_tallies CHECK (((length(tallies) + COALESCE(length(upstream), 0)) > 0))
);
CREATE TABLE public.journal_writers (
    writer text NOT NULL,
    batch bigint NOT NULL,
    CONSTRAINT ck_journal_writers_batch CHECK ((batch >= 1))
);
CREATE TABLE public.ledger_accounts (
    name text NOT NULL,
    kind text NOT NULL,
    tenant_id bigint
);
CREATE TABLE public.ledger_transactions (
    seq bigint NOT NULL,
    idempotency_key text NOT NULL,
    kind text NOT NULL,
    memo text NOT NULL,
    reverses_seq bigint,
    booked_at_s bigint NOT NULL,
    payload_hash text NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL,
    CONSTRAINT ck_ledger_transactions_reversal CHECK (((kind = 'reversal'::text) = (reverses_seq IS NOT NULL))),
    CONSTRAINT ck_ledger_transactions_seq CHECK ((seq >= 1))
);
CREATE TABLE public.ledger_transfers (
    transaction_seq bigint NOT NULL,
    "position" bigint NOT NULL,
    from_account text NOT NULL,
    to_account text NOT NULL,
    amount_sat bigint NOT NULL,
    CONSTRAINT ck_ledger_transfers_accounts CHECK ((from_account <> to_account)),
    CONSTRAINT ck_ledger_transfers_amount_sat CHECK ((amount_sat > 0))
);
CREATE TABLE public.order_hours (
    order_id bigint NOT NULL,
    hour bigint NOT NULL,
    minutes bigint NOT NULL,
    minutes_short bigint NOT NULL,
    moves bigint NOT NULL,
    CONSTRAINT ck_order_hours_minutes_short CHECK (((minutes_short >= 0) AND (minutes_short <= minutes))),
    CONSTRAINT ck_order_hours_moves CHECK ((moves >= 0))
);
CREATE TABLE public.order_suppliers (
    order_id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    container_id bigint NOT NULL
);
CREATE TABLE public.orders (
    id bigint NOT NULL,
    name text NOT NULL,
    buyer text NOT NULL,
    upstream_id bigint NOT NULL,
    hashrate_ths bigint NOT NULL,
    tolerance_bps bigint NOT NULL,
    from_s bigint NOT NULL,
    until_s bigint NOT NULL,
    priority bigint NOT NULL,
    sat_per_ph_day bigint NOT NULL,
    created_at_s bigint NOT NULL,
    created_by text NOT NULL,
    ended_at_s bigint,
    ended_by text,
    CONSTRAINT ck_orders_ended_by CHECK (((ended_at_s IS NULL) = (ended_by IS NULL))),
    CONSTRAINT ck_orders_hashrate_ths CHECK ((hashrate_ths > 0)),
    CONSTRAINT ck_orders_name CHECK (((length(name) >= 1) AND (length(name) <= 63))),
    CONSTRAINT ck_orders_priority CHECK (((priority >= 1) AND (priority <= 100))),
    CONSTRAINT ck_orders_sat_per_ph_day CHECK ((sat_per_ph_day >= 0)),
    CONSTRAINT ck_orders_tolerance_bps CHECK (((tolerance_bps >= 1) AND (tolerance_bps <= 10000))),
    CONSTRAINT ck_orders_until_s CHECK ((until_s > from_s))
);
CREATE TABLE public.payout_approvals (
    id bigint NOT NULL,
    batch_id bigint NOT NULL,
    digest text NOT NULL,
    fee_cap_sat bigint NOT NULL,
    approved_by text NOT NULL,
    approved_at_s bigint NOT NULL,
    CONSTRAINT ck_payout_approvals_fee_cap_sat CHECK ((fee_cap_sat > 0))
);
CREATE SEQUENCE public.payout_approvals_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.payout_approvals_id_seq OWNED BY public.payout_approvals.id;
CREATE TABLE public.payout_attempts (
    batch_id bigint NOT NULL,
    attempt bigint NOT NULL,
    state text NOT NULL,
    txid text NOT NULL,
    fee_sat bigint NOT NULL,
    change_script text,
    change_sat bigint,
    made_at_height bigint NOT NULL,
    psbt bytea,
    signed_tx bytea,
    quarantine_reason text,
    block_hash text,
    block_height bigint,
    created_at_s bigint NOT NULL,
    CONSTRAINT ck_payout_attempts_block_hash CHECK (((state = ANY (ARRAY['confirmed'::text, 'final'::text])) = ((block_hash IS NOT NULL) AND (block_height IS NOT NULL)))),
    CONSTRAINT ck_payout_attempts_change CHECK (((change_sat IS NULL) = (change_script IS NULL))),
    CONSTRAINT ck_payout_attempts_change_sat CHECK (((change_sat IS NOT NULL) OR (psbt IS NULL))),
    CONSTRAINT ck_payout_attempts_fee_sat CHECK (((fee_sat >= 0) AND ((change_sat IS NULL) OR (change_sat > 0)))),
    CONSTRAINT ck_payout_attempts_quarantine_reason CHECK (((state = 'quarantined'::text) = (quarantine_reason IS NOT NULL))),
    CONSTRAINT ck_payout_attempts_signed_tx CHECK (((signed_tx IS NOT NULL) OR ((psbt IS NOT NULL) AND (state = ANY (ARRAY['psbt'::text, 'given'::text, 'quarantined'::text, 'failed'::text]))))),
    CONSTRAINT ck_payout_attempts_state CHECK ((state = ANY (ARRAY['psbt'::text, 'given'::text, 'quarantined'::text, 'signed'::text, 'broadcast'::text, 'replaced'::text, 'confirmed'::text, 'final'::text, 'failed'::text])))
);
CREATE TABLE public.payout_batches (
    id bigint NOT NULL,
    state text NOT NULL,
    digest text NOT NULL,
    created_by text NOT NULL,
    created_at_s bigint NOT NULL,
    CONSTRAINT ck_payout_batches_state CHECK ((state = ANY (ARRAY['draft'::text, 'approved'::text, 'psbt'::text, 'signed'::text, 'broadcast'::text, 'confirmed'::text, 'final'::text, 'failed'::text])))
);
CREATE TABLE public.payout_events (
    batch_id bigint NOT NULL,
    "position" bigint NOT NULL,
    state text NOT NULL,
    attempt bigint,
    done_by text NOT NULL,
    detail text NOT NULL,
    at_s bigint NOT NULL,
    transaction_seq bigint
);
CREATE TABLE public.payout_inputs (
    batch_id bigint NOT NULL,
    attempt bigint NOT NULL,
    "position" bigint NOT NULL,
    txid text NOT NULL,
    vout bigint NOT NULL,
    amount_sat bigint NOT NULL,
    script text NOT NULL,
    CONSTRAINT ck_payout_inputs_amount_sat CHECK ((amount_sat > 0))
);
CREATE TABLE public.payout_items (
    batch_id bigint NOT NULL,
    "position" bigint NOT NULL,
    tenant_id bigint NOT NULL,
    address text NOT NULL,
    script text NOT NULL,
    amount_sat bigint NOT NULL,
    CONSTRAINT ck_payout_items_amount_sat CHECK ((amount_sat > 0))
);
CREATE TABLE public.payout_strangers (
    txid text NOT NULL,
    anchor text NOT NULL,
    accepted_by text NOT NULL,
    accepted_at_s bigint NOT NULL
);
CREATE TABLE public.proposals (
    id bigint NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    why text NOT NULL,
    proposed_by text NOT NULL,
    proposed_at_s bigint NOT NULL,
    CONSTRAINT ck_proposals_kind CHECK ((kind = ANY (ARRAY['reversal'::text, 'no_payout'::text]))),
    CONSTRAINT ck_proposals_why CHECK ((length(why) > 0))
);
CREATE TABLE public.rate_epoch_tenants (
    epoch bigint NOT NULL,
    tenant_id bigint NOT NULL,
    rate_id bigint NOT NULL,
    upstream_risk text DEFAULT 'tenant'::text NOT NULL,
    CONSTRAINT ck_rate_epoch_tenants_upstream_risk CHECK ((upstream_risk = ANY (ARRAY['tenant'::text, 'pool'::text])))
);
CREATE TABLE public.rate_epochs (
    epoch bigint NOT NULL,
    nbits bigint NOT NULL,
    height bigint NOT NULL,
    subsidy_sat bigint NOT NULL,
    fee_basis_id bigint,
    created_at_s bigint NOT NULL,
    upstream_id bigint,
    order_id bigint,
    solo bigint DEFAULT 0 NOT NULL,
    CONSTRAINT ck_rate_epochs_epoch CHECK (((epoch >= 1) AND (epoch <= '4294967295'::bigint))),
    CONSTRAINT ck_rate_epochs_solo CHECK ((solo = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);
CREATE TABLE public.rate_hours (
    rate_id bigint NOT NULL,
    hour bigint NOT NULL,
    difficulty_log2 bigint NOT NULL,
    shares bigint NOT NULL,
    settled bigint NOT NULL,
    undelivered bigint DEFAULT 0 NOT NULL,
    CONSTRAINT ck_rate_hours_difficulty_log2 CHECK (((difficulty_log2 >= '-32'::integer) AND (difficulty_log2 <= 63))),
    CONSTRAINT ck_rate_hours_settled CHECK (((settled >= 0) AND (settled <= shares))),
    CONSTRAINT ck_rate_hours_undelivered CHECK (((undelivered >= 0) AND (undelivered <= shares)))
);
CREATE TABLE public.rates (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    scheme text NOT NULL,
    fee_bps bigint NOT NULL,
    nbits bigint NOT NULL,
    height bigint NOT NULL,
    subsidy_sat bigint NOT NULL,
    block_fees_sat bigint NOT NULL,
    fee_basis_id bigint,
    created_at_s bigint NOT NULL,
    upstream_id bigint,
    order_id bigint,
    sat_per_ph_day bigint,
    CONSTRAINT ck_rates_fee_basis CHECK (((fee_basis_id IS NOT NULL) OR (block_fees_sat = 0))),
    CONSTRAINT ck_rates_fee_bps CHECK (((fee_bps >= 0) AND (fee_bps <= 10000))),
    CONSTRAINT ck_rates_height CHECK ((height >= 0)),
    CONSTRAINT ck_rates_nbits CHECK (((nbits >= 1) AND (nbits <= '4294967295'::bigint))),
    CONSTRAINT ck_rates_reward CHECK (((subsidy_sat >= 0) AND (block_fees_sat >= 0))),
    CONSTRAINT ck_rates_sat_per_ph_day CHECK (((sat_per_ph_day IS NULL) OR ((sat_per_ph_day >= 0) AND (order_id IS NOT NULL)))),
    CONSTRAINT ck_rates_scheme CHECK ((scheme = ANY (ARRAY['pps'::text, 'fpps'::text, 'solo'::text, 'proxy'::text])))
);
CREATE TABLE public.settled_shares (
    settlement_seq bigint NOT NULL,
    difficulty_log2 bigint NOT NULL,
    shares bigint NOT NULL,
    CONSTRAINT ck_settled_shares_shares CHECK ((shares > 0))
);
CREATE TABLE public.settlements (
    seq bigint NOT NULL,
    tenant_id bigint NOT NULL,
    rate_id bigint NOT NULL,
    hour bigint NOT NULL,
    part bigint NOT NULL,
    credit_sat bigint NOT NULL,
    credit_psat bigint NOT NULL,
    carry_in_psat bigint NOT NULL,
    posted_sat bigint NOT NULL,
    carry_out_psat bigint NOT NULL,
    fee_sat bigint NOT NULL,
    fee_psat bigint NOT NULL,
    fee_carry_in_psat bigint NOT NULL,
    fee_posted_sat bigint NOT NULL,
    fee_carry_out_psat bigint NOT NULL,
    transaction_seq bigint,
    settled_at_s bigint NOT NULL,
    CONSTRAINT ck_settlements_carry_in_psat CHECK (((carry_in_psat >= 0) AND (carry_in_psat <= '999999999999'::bigint))),
    CONSTRAINT ck_settlements_carry_out_psat CHECK (((carry_out_psat >= 0) AND (carry_out_psat <= '999999999999'::bigint))),
    CONSTRAINT ck_settlements_credit_psat CHECK (((credit_psat >= 0) AND (credit_psat <= '999999999999'::bigint))),
    CONSTRAINT ck_settlements_credit_sat CHECK (((credit_sat >= 0) AND (posted_sat >= 0))),
    CONSTRAINT ck_settlements_fee_carry_in_psat CHECK (((fee_carry_in_psat >= 0) AND (fee_carry_in_psat <= '999999999999'::bigint))),
    CONSTRAINT ck_settlements_fee_carry_out_psat CHECK (((fee_carry_out_psat >= 0) AND (fee_carry_out_psat <= '999999999999'::bigint))),
    CONSTRAINT ck_settlements_fee_psat CHECK (((fee_psat >= 0) AND (fee_psat <= '999999999999'::bigint))),
    CONSTRAINT ck_settlements_fee_sat CHECK (((fee_sat >= 0) AND (fee_posted_sat >= 0))),
    CONSTRAINT ck_settlements_part CHECK ((part >= 0)),
    CONSTRAINT ck_settlements_transaction_seq CHECK (((transaction_seq IS NULL) = ((posted_sat + fee_posted_sat) = 0)))
);
CREATE TABLE public.sibling_blocks (
    parent_hash text NOT NULL,
    worker_id bigint NOT NULL,
    pays_pool bigint NOT NULL,
    height bigint NOT NULL,
    found_at_s bigint NOT NULL,
    blocks bigint NOT NULL,
    CONSTRAINT ck_sibling_blocks_blocks CHECK (((height >= 0) AND (blocks > 0))),
    CONSTRAINT ck_sibling_blocks_pays_pool CHECK ((pays_pool = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);
CREATE TABLE public.sites (
    id bigint NOT NULL,
    name text NOT NULL,
    created_at_s bigint NOT NULL
);
CREATE SEQUENCE public.sites_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.sites_id_seq OWNED BY public.sites.id;
CREATE TABLE public.solo_blocks (
    block_hash text NOT NULL,
    tenant_id bigint NOT NULL,
    address text NOT NULL,
    amount_sat bigint NOT NULL,
    CONSTRAINT ck_solo_blocks_amount_sat CHECK ((amount_sat >= 0))
);
CREATE TABLE public.tally_days (
    worker_id bigint NOT NULL,
    day bigint NOT NULL,
    rate_id bigint NOT NULL,
    difficulty_log2 bigint NOT NULL,
    verdict bigint NOT NULL,
    shares bigint NOT NULL,
    minutes bigint NOT NULL,
    CONSTRAINT ck_tally_days_difficulty_log2 CHECK (((difficulty_log2 >= '-32'::integer) AND (difficulty_log2 <= 63))),
    CONSTRAINT ck_tally_days_rate_id CHECK (((rate_id > 0) OR ((rate_id = 0) AND (verdict > 0)))),
    CONSTRAINT ck_tally_days_shares CHECK ((shares > 0)),
    CONSTRAINT ck_tally_days_verdict CHECK (((verdict >= 0) AND (verdict <= 255)))
);
CREATE TABLE public.tally_hours (
    worker_id bigint NOT NULL,
    hour bigint NOT NULL,
    rate_id bigint NOT NULL,
    difficulty_log2 bigint NOT NULL,
    verdict bigint NOT NULL,
    shares bigint NOT NULL,
    minutes bigint NOT NULL,
    CONSTRAINT ck_tally_hours_difficulty_log2 CHECK (((difficulty_log2 >= '-32'::integer) AND (difficulty_log2 <= 63))),
    CONSTRAINT ck_tally_hours_rate_id CHECK (((rate_id > 0) OR ((rate_id = 0) AND (verdict > 0)))),
    CONSTRAINT ck_tally_hours_shares CHECK ((shares > 0)),
    CONSTRAINT ck_tally_hours_verdict CHECK (((verdict >= 0) AND (verdict <= 255)))
);
CREATE TABLE public.tally_minutes (
    minute bigint NOT NULL,
    worker_id bigint NOT NULL,
    rate_id bigint NOT NULL,
    difficulty_log2 bigint NOT NULL,
    verdict bigint NOT NULL,
    shares bigint NOT NULL,
    CONSTRAINT ck_tally_minutes_difficulty_log2 CHECK (((difficulty_log2 >= '-32'::integer) AND (difficulty_log2 <= 63))),
    CONSTRAINT ck_tally_minutes_rate_id CHECK (((rate_id > 0) OR ((rate_id = 0) AND (verdict > 0)))),
    CONSTRAINT ck_tally_minutes_shares CHECK ((shares > 0)),
    CONSTRAINT ck_tally_minutes_verdict CHECK (((verdict >= 0) AND (verdict <= 255)))
);
CREATE TABLE public.tenant_addresses (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    address text NOT NULL,
    changed_at_s bigint NOT NULL,
    changed_by text NOT NULL,
    effective_at_s bigint NOT NULL,
    CONSTRAINT ck_tenant_addresses_effective_at_s CHECK ((effective_at_s >= changed_at_s))
);
CREATE SEQUENCE public.tenant_addresses_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.tenant_addresses_id_seq OWNED BY public.tenant_addresses.id;
CREATE TABLE public.tenant_terms (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    scheme text NOT NULL,
    fee_bps bigint NOT NULL,
    payout_minimum_sat bigint NOT NULL,
    changed_at_s bigint NOT NULL,
    changed_by text NOT NULL,
    upstream_id bigint,
    order_credit text DEFAULT 'pps'::text NOT NULL,
    upstream_risk text DEFAULT 'tenant'::text NOT NULL,
    CONSTRAINT ck_tenant_terms_fee_bps CHECK (((fee_bps >= 0) AND (fee_bps <= 10000))),
    CONSTRAINT ck_tenant_terms_order_credit CHECK ((order_credit = ANY (ARRAY['pps'::text, 'order'::text]))),
    CONSTRAINT ck_tenant_terms_payout_minimum_sat CHECK ((payout_minimum_sat >= 0)),
    CONSTRAINT ck_tenant_terms_scheme CHECK ((scheme = ANY (ARRAY['pps'::text, 'fpps'::text, 'solo'::text, 'proxy'::text]))),
    CONSTRAINT ck_tenant_terms_upstream_risk CHECK ((upstream_risk = ANY (ARRAY['tenant'::text, 'pool'::text])))
);
CREATE SEQUENCE public.tenant_terms_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.tenant_terms_id_seq OWNED BY public.tenant_terms.id;
CREATE TABLE public.tenants (
    id bigint NOT NULL,
    name text NOT NULL,
    status text NOT NULL,
    created_at_s bigint NOT NULL,
    CONSTRAINT ck_tenants_name CHECK ((((length(name) >= 1) AND (length(name) <= 63)) AND (name !~~ '%.%'::text))),
    CONSTRAINT ck_tenants_status CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text])))
);
CREATE TABLE public.upstream_credits (
    seq bigint NOT NULL,
    tip_id bigint NOT NULL,
    hashes bytea NOT NULL
);
CREATE TABLE public.upstream_days (
    day bigint NOT NULL,
    worker_id bigint NOT NULL,
    upstream_id bigint NOT NULL,
    verdict text NOT NULL,
    shares bigint NOT NULL,
    CONSTRAINT ck_upstream_days_shares CHECK ((shares > 0)),
    CONSTRAINT ck_upstream_days_verdict CHECK ((verdict = ANY (ARRAY['accepted'::text, 'rejected'::text, 'unanswered'::text])))
);
CREATE TABLE public.upstream_endpoints (
    upstream_id bigint NOT NULL,
    "position" bigint NOT NULL,
    host text NOT NULL,
    port bigint NOT NULL,
    user_name text NOT NULL,
    password text NOT NULL,
    tls bigint NOT NULL,
    ca_file text,
    CONSTRAINT ck_upstream_endpoints_port CHECK (((port >= 1) AND (port <= 65535))),
    CONSTRAINT ck_upstream_endpoints_position CHECK (("position" >= 0)),
    CONSTRAINT ck_upstream_endpoints_tls CHECK ((tls = ANY (ARRAY[(0)::bigint, (1)::bigint])))
);
CREATE TABLE public.upstream_hours (
    hour bigint NOT NULL,
    tenant_id bigint NOT NULL,
    upstream_id bigint NOT NULL,
    order_id bigint NOT NULL,
    target text NOT NULL,
    verdict text NOT NULL,
    reason text NOT NULL,
    shares bigint NOT NULL,
    CONSTRAINT ck_upstream_hours_reason CHECK (((verdict = 'rejected'::text) OR (reason = ''::text))),
    CONSTRAINT ck_upstream_hours_shares CHECK ((shares > 0)),
    CONSTRAINT ck_upstream_hours_target CHECK ((length(target) = 64)),
    CONSTRAINT ck_upstream_hours_verdict CHECK ((verdict = ANY (ARRAY['accepted'::text, 'rejected'::text, 'unanswered'::text])))
);
CREATE TABLE public.upstream_submits (
    key text NOT NULL,
    worker_id bigint NOT NULL,
    epoch bigint NOT NULL,
    difficulty_log2 bigint NOT NULL,
    counted bigint NOT NULL,
    target text NOT NULL,
    noted_at_s bigint NOT NULL,
    CONSTRAINT ck_upstream_submits_counted CHECK ((counted = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT ck_upstream_submits_difficulty_log2 CHECK (((difficulty_log2 >= '-32'::integer) AND (difficulty_log2 <= 63))),
    CONSTRAINT ck_upstream_submits_target CHECK ((length(target) = 64))
);
CREATE TABLE public.upstream_tips (
    id bigint NOT NULL,
    prevhash text NOT NULL,
    forgotten bigint NOT NULL,
    CONSTRAINT ck_upstream_tips_forgotten CHECK ((forgotten = ANY (ARRAY[(0)::bigint, (1)::bigint]))),
    CONSTRAINT ck_upstream_tips_prevhash CHECK ((length(prevhash) = 64))
);
CREATE TABLE public.upstreams (
    id bigint NOT NULL,
    name text NOT NULL,
    fallback_id bigint,
    outage_s bigint NOT NULL,
    connections bigint NOT NULL,
    suggest_difficulty bigint,
    status text NOT NULL,
    created_at_s bigint NOT NULL,
    created_by text NOT NULL,
    CONSTRAINT ck_upstreams_connections CHECK (((connections >= 1) AND (connections <= 16))),
    CONSTRAINT ck_upstreams_name CHECK ((((length(name) >= 1) AND (length(name) <= 63)) AND (name <> 'pool'::text))),
    CONSTRAINT ck_upstreams_outage_s CHECK ((outage_s >= 0)),
    CONSTRAINT ck_upstreams_status CHECK ((status = ANY (ARRAY['active'::text, 'removed'::text]))),
    CONSTRAINT ck_upstreams_suggest_difficulty CHECK ((suggest_difficulty > 0))
);
CREATE TABLE public.workers (
    id bigint NOT NULL,
    tenant_id bigint NOT NULL,
    container_id bigint NOT NULL,
    unit text NOT NULL,
    agent text,
    difficulty_log2 bigint,
    first_seen_at_s bigint NOT NULL,
    last_seen_at_s bigint NOT NULL,
    removed_at_s bigint,
    CONSTRAINT ck_workers_difficulty_log2 CHECK (((difficulty_log2 >= '-32'::integer) AND (difficulty_log2 <= 63)))
);
CREATE SEQUENCE public.workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.workers_id_seq OWNED BY public.workers.id;
ALTER TABLE ONLY public.book ALTER COLUMN id SET DEFAULT nextval('public.book_id_seq'::regclass);
ALTER TABLE ONLY public.channel_events ALTER COLUMN id SET DEFAULT nextval('public.channel_events_id_seq'::regclass);
ALTER TABLE ONLY public.containers ALTER COLUMN id SET DEFAULT nextval('public.containers_id_seq'::regclass);
ALTER TABLE ONLY public.payout_approvals ALTER COLUMN id SET DEFAULT nextval('public.payout_approvals_id_seq'::regclass);
ALTER TABLE ONLY public.sites ALTER COLUMN id SET DEFAULT nextval('public.sites_id_seq'::regclass);
ALTER TABLE ONLY public.tenant_addresses ALTER COLUMN id SET DEFAULT nextval('public.tenant_addresses_id_seq'::regclass);
ALTER TABLE ONLY public.tenant_terms ALTER COLUMN id SET DEFAULT nextval('public.tenant_terms_id_seq'::regclass);
ALTER TABLE ONLY public.workers ALTER COLUMN id SET DEFAULT nextval('public.workers_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES
	('0013');
INSERT INTO public.block_events VALUES
	('abababababababababababababababababababababababababababababababab', 0, 'found', 1788220860, NULL),
	('abababababababababababababababababababababababababababababababab', 1, 'pending', 1788220860, 1),
	('abababababababababababababababababababababababababababababababab', 2, 'matured', 1788307200, 6);
INSERT INTO public.blocks VALUES
	('abababababababababababababababababababababababababababababababab', 1000050, 1000, 316000000, 1788220850);
INSERT INTO public.book VALUES
	(1, NULL, NULL, NULL, 1788354000, 1, 1, 23, 'process 27543 on vm', 0);
INSERT INTO public.containers VALUES
	(1, 1, 'c01', NULL, NULL, NULL, NULL, 0, NULL),
	(2, 2, 'c01', NULL, NULL, NULL, NULL, 0, NULL),
	(9, 1, 'c02', 1, 400, 40000, 1400, 1788220800, NULL);
INSERT INTO public.fee_bases VALUES
	(1, 4000009, 1788134400);
INSERT INTO public.fee_basis_blocks VALUES
	(1, '0000000000000000000000000000000000000000000000000000000000000000', 900000, 4000000),
	(1, '0000000000000000000000000000000000000000000000000000000000000001', 900001, 4000001),
	(1, '0000000000000000000000000000000000000000000000000000000000000002', 900002, 4000002),
	(1, '0000000000000000000000000000000000000000000000000000000000000003', 900003, 4000003),
	(1, '0000000000000000000000000000000000000000000000000000000000000004', 900004, 4000004),
	(1, '0000000000000000000000000000000000000000000000000000000000000005', 900005, 4000005),
	(1, '0000000000000000000000000000000000000000000000000000000000000006', 900006, 4000006),
	(1, '0000000000000000000000000000000000000000000000000000000000000007', 900007, 4000007),
	(1, '0000000000000000000000000000000000000000000000000000000000000008', 900008, 4000008),
	(1, '0000000000000000000000000000000000000000000000000000000000000009', 900009, 4000009),
	(1, '000000000000000000000000000000000000000000000000000000000000000a', 900010, 4000010),
	(1, '000000000000000000000000000000000000000000000000000000000000000b', 900011, 4000011),
	(1, '000000000000000000000000000000000000000000000000000000000000000c', 900012, 4000012),
	(1, '000000000000000000000000000000000000000000000000000000000000000d', 900013, 4000013),
	(1, '000000000000000000000000000000000000000000000000000000000000000e', 900014, 4000014),
	(1, '000000000000000000000000000000000000000000000000000000000000000f', 900015, 4000015),
	(1, '0000000000000000000000000000000000000000000000000000000000000010', 900016, 4000016),
	(1, '0000000000000000000000000000000000000000000000000000000000000011', 900017, 4000017),
	(1, '0000000000000000000000000000000000000000000000000000000000000012', 900018, 4000018),
	(1, '0000000000000000000000000000000000000000000000000000000000000013', 900019, 4000019);
INSERT INTO public.journal_batches VALUES
	(1, 29805900, '\xee030000010000001000000003000000', NULL, '\x9187a26964cd03eea974656e616e745f696401ac636f6e7461696e65725f696409a4756e6974a27531a56167656e74a763676d696e6572af646966666963756c74795f6c6f6732c0a772656d6f766564c2'),
	(2, 29805900, '\xef030000010000001000000005000000', NULL, '\x9187a26964cd03efa974656e616e745f696402ac636f6e7461696e65725f696402a4756e6974a36e6577a56167656e74a763676d696e6572af646966666963756c74795f6c6f6732c0a772656d6f766564c2');
INSERT INTO public.journal_writers VALUES
	('pool', 1);
INSERT INTO public.ledger_accounts VALUES
	('pool.pps_expense', 'pps_expense', NULL),
	('pool.fee_income', 'fee_income', NULL),
	('pool.block_income_pending', 'block_income_pending', NULL),
	('pool.block_income_matured', 'block_income_matured', NULL),
	('pool.node_fees', 'node_fees', NULL),
	('pool.rounding', 'rounding', NULL),
	('pool.coins', 'coins', NULL),
	('pool.overpaid', 'overpaid', NULL),
	('tenant.1.payable', 'payable', 1),
	('tenant.1.in_payout', 'in_payout', 1),
	('tenant.2.payable', 'payable', 2),
	('tenant.2.in_payout', 'in_payout', 2);
INSERT INTO public.ledger_transactions VALUES
	(1, 'block:abababababababababababababababababababababababababababababababab:1', 'block', 'block abababababababababababababababababababababababababababababababab pending', NULL, 1788220860, 'b70bfc9d331587dc204eabf881d88ff19dd385fce2b64c89a5db76f33fca350e', '0000000000000000000000000000000000000000000000000000000000000000', 'c5af89f1f1c3e4548568aa4d84307611597c9415262ad2e6f592c7a30bce040d'),
	(2, 'settlement:1:496728:0', 'settlement', 'rate 1, 2026-09-01T00Z, part 0', NULL, 1788264090, '5ed7c668bde8ac4a6b3f0f078eb66a1f670a4807bf782892c0badc2d88b1b9db', 'c5af89f1f1c3e4548568aa4d84307611597c9415262ad2e6f592c7a30bce040d', '9fc62da4eac066edd7f09ddbf52980a0d1c8a6ddde3ba7adb8cea9277d2df9ed'),
	(3, 'settlement:1:496731:0', 'settlement', 'rate 1, 2026-09-01T03Z, part 0', NULL, 1788264090, 'e31e2aea5c9b1b743649bb37beaf576641ce38a9af662034db01509ff6dc261d', '9fc62da4eac066edd7f09ddbf52980a0d1c8a6ddde3ba7adb8cea9277d2df9ed', 'd77aa923adaec4a302f4da7625e3b00b7f4aea59b6cad08293f304696569215e'),
	(4, 'settlement:1:496734:0', 'settlement', 'rate 1, 2026-09-01T06Z, part 0', NULL, 1788264090, 'ebdd382dacf040f09364a4f94ec933fd2e6215986eb3c27eaa0c92be876b1b94', 'd77aa923adaec4a302f4da7625e3b00b7f4aea59b6cad08293f304696569215e', '3f98e7cdffd1ef56433edd5a08a16fd102c2d025c976486b4f939453996baf5e'),
	(5, 'settlement:1:496737:0', 'settlement', 'rate 1, 2026-09-01T09Z, part 0', NULL, 1788264090, '71b1cad492899ca1765bdc01502861cfcaeb1370b4f0fdee0feaa76d7af8dd7e', '3f98e7cdffd1ef56433edd5a08a16fd102c2d025c976486b4f939453996baf5e', 'b40890026f896a9036ceecb3efa50658a88387d813d67d49a5be05de06c6ba84'),
	(6, 'block:abababababababababababababababababababababababababababababababab:2', 'block', 'block abababababababababababababababababababababababababababababababab matured', NULL, 1788307200, '1141895ca5febf663fbc091666f62f52b495f0d8c5d645a715a163c54aec1b9a', 'b40890026f896a9036ceecb3efa50658a88387d813d67d49a5be05de06c6ba84', '3948aadc55a3196a361c52be766822817c0e291d45016a79caaec1804a967bb0'),
	(7, 'settlement:1:496740:0', 'settlement', 'rate 1, 2026-09-01T12Z, part 0', NULL, 1788307290, '6ccad7a2d470cedab6689c8b03b558906822084a9a8f4fcb724cb297f5a8b1ec', '3948aadc55a3196a361c52be766822817c0e291d45016a79caaec1804a967bb0', 'f38aea676215aca7b545528ac06607aa3e8a12bb350343a3af56394f6302b72f'),
	(8, 'settlement:1:496743:0', 'settlement', 'rate 1, 2026-09-01T15Z, part 0', NULL, 1788307290, '23ed8846977388afc9212b5d6fbbc7aa85c9eb6752d1e83cb9bce24f1f82cb70', 'f38aea676215aca7b545528ac06607aa3e8a12bb350343a3af56394f6302b72f', '9926d6c2d22d180d2a9526cb636f4c0803ec2c5e9e66c787768cbfbc67ec2f67'),
	(9, 'settlement:1:496746:0', 'settlement', 'rate 1, 2026-09-01T18Z, part 0', NULL, 1788307290, 'd5a53db854d792fcdcea8363b3611dae7edf0e7dbc952423a874fb25b588d80a', '9926d6c2d22d180d2a9526cb636f4c0803ec2c5e9e66c787768cbfbc67ec2f67', 'fd1cb9a2011db9d366d9afdcba3be7a5143a542efb92563cca8dd79112b61c12'),
	(10, 'settlement:1:496749:0', 'settlement', 'rate 1, 2026-09-01T21Z, part 0', NULL, 1788307290, '854315d178da1b5ff8536d3a300e132993a342706e27942ead6114b86a236dd3', 'fd1cb9a2011db9d366d9afdcba3be7a5143a542efb92563cca8dd79112b61c12', 'e39614f5d1abc46ad6ea9b9277d5c76d7bd68578d555acd14f00bcafec507eb7'),
	(11, 'payout:1:0', 'payout', 'payout batch 1 draft', NULL, 1788339600, 'a797b669f60681453d67cdf55ec0e547b8f45f33eeb6968d714d82e68eed79c5', 'e39614f5d1abc46ad6ea9b9277d5c76d7bd68578d555acd14f00bcafec507eb7', 'bec00dab128967796cc032e2a97ea64f4e481b5a44f31964bf2b6e77df84b66d'),
	(12, 'payout:2:0', 'payout', 'payout batch 2 draft', NULL, 1788346800, '065247764e9d9aa5f4c9b7a78dc854834d729045a2c9323512b0cda744202e0c', 'bec00dab128967796cc032e2a97ea64f4e481b5a44f31964bf2b6e77df84b66d', '1058da73ad84f312e7d20ad1b3c02494d786cc4d1dff0076becb703046a8d23b'),
	(13, 'settlement:1:496752:0', 'settlement', 'rate 1, 2026-09-02T00Z, part 0', NULL, 1788350490, '236d488d1af3804342f5f1dd26197fda7ccf55c1fcb07033bb87bac4523764d3', '1058da73ad84f312e7d20ad1b3c02494d786cc4d1dff0076becb703046a8d23b', 'b3980b3d4e1ec1c266246ca554f5ba30abf48d5f4079839296b364f7e8cf12af'),
	(14, 'settlement:1:496755:0', 'settlement', 'rate 1, 2026-09-02T03Z, part 0', NULL, 1788350490, 'b8146db93066b3b6694330868efb26689bb8c89adfa1ee856dcebea21e85a7e0', 'b3980b3d4e1ec1c266246ca554f5ba30abf48d5f4079839296b364f7e8cf12af', '55811ffeef9b37614f5e1f25022e8c14e794f3a725b388f05484c80e8bf2102b'),
	(15, 'settlement:1:496758:0', 'settlement', 'rate 1, 2026-09-02T06Z, part 0', NULL, 1788350490, 'a3016a0d322c54886d8054afab4c6e133c56f451eed9e22022dfccc8d8f2b0d4', '55811ffeef9b37614f5e1f25022e8c14e794f3a725b388f05484c80e8bf2102b', '45f124407b5a54c845af9db1f8bec14f39dc61b9408b02de948025ca8eb68336'),
	(16, 'settlement:1:496761:0', 'settlement', 'rate 1, 2026-09-02T09Z, part 0', NULL, 1788350490, 'e5e53200d9c910bad13e89f22e0f3e1afd4fad2eb2bea15d764c7540d18d1e65', '45f124407b5a54c845af9db1f8bec14f39dc61b9408b02de948025ca8eb68336', 'b7c17a522f78d3eb724719d0090c1b74f9ac4d3174e3f635c40318fd4461f17c');
INSERT INTO public.ledger_transfers VALUES
	(1, 0, 'pool.coins', 'pool.block_income_pending', 316000000),
	(2, 0, 'pool.pps_expense', 'tenant.1.payable', 38069),
	(2, 1, 'pool.pps_expense', 'pool.fee_income', 976),
	(3, 0, 'pool.pps_expense', 'tenant.1.payable', 38082),
	(3, 1, 'pool.pps_expense', 'pool.fee_income', 976),
	(4, 0, 'pool.pps_expense', 'tenant.1.payable', 38095),
	(4, 1, 'pool.pps_expense', 'pool.fee_income', 977),
	(5, 0, 'pool.pps_expense', 'tenant.1.payable', 38107),
	(5, 1, 'pool.pps_expense', 'pool.fee_income', 977),
	(6, 0, 'pool.block_income_pending', 'pool.block_income_matured', 316000000),
	(7, 0, 'pool.pps_expense', 'tenant.1.payable', 38120),
	(7, 1, 'pool.pps_expense', 'pool.fee_income', 977),
	(8, 0, 'pool.pps_expense', 'tenant.1.payable', 38133),
	(8, 1, 'pool.pps_expense', 'pool.fee_income', 978),
	(9, 0, 'pool.pps_expense', 'tenant.1.payable', 38146),
	(9, 1, 'pool.pps_expense', 'pool.fee_income', 978),
	(10, 0, 'pool.pps_expense', 'tenant.1.payable', 38158),
	(10, 1, 'pool.pps_expense', 'pool.fee_income', 979),
	(11, 0, 'tenant.1.payable', 'tenant.1.in_payout', 100000),
	(12, 0, 'tenant.1.payable', 'tenant.1.in_payout', 150000),
	(13, 0, 'pool.pps_expense', 'tenant.1.payable', 38171),
	(13, 1, 'pool.pps_expense', 'pool.fee_income', 978),
	(14, 0, 'pool.pps_expense', 'tenant.1.payable', 38184),
	(14, 1, 'pool.pps_expense', 'pool.fee_income', 980),
	(15, 0, 'pool.pps_expense', 'tenant.1.payable', 38196),
	(15, 1, 'pool.pps_expense', 'pool.fee_income', 979),
	(16, 0, 'pool.pps_expense', 'tenant.1.payable', 38209),
	(16, 1, 'pool.pps_expense', 'pool.fee_income', 980);
INSERT INTO public.order_suppliers VALUES
	(1, 1, 0),
	(1, 1, 9);
INSERT INTO public.orders VALUES
	(1, 'blue', 'Blue Ltd', 1, 1000, 200, 1788220800, 1914364800, 50, 4500, 1788220800, 'olga', NULL, NULL);
INSERT INTO public.payout_approvals VALUES
	(1, 1, '56c57423b57ca0c60a416f8ad1a8c0b2eb13dce1c6a1ee0a322137b74169fdff', 10000, 'dmitri', 1788339660),
	(2, 2, '42518a628fd58f800b63ae9a953c893f87d238385a05879ada9462c928417ebb', 10000, 'dmitri', 1788346860);
INSERT INTO public.payout_attempts VALUES
	(1, 1, 'broadcast', '6df3dea00c538ee5b369370b7022d6e453d5d8ec9a3fc720775d8070f244e345', 1000, '00142222222222222222222222222222222222222222', 50000, 1, NULL, '\x0200000000010101000000000000000000000000000000000000000000000000000000000000000000000000fdffffff02a086010000000000160014111111111111111111111111111111111111111150c30000000000001600142222222222222222222222222222222222222222024700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000002100000000000000000000000000000000000000000000000000000000000000000000000000', NULL, NULL, NULL, 1788343200);
INSERT INTO public.payout_batches VALUES
	(1, 'broadcast', '56c57423b57ca0c60a416f8ad1a8c0b2eb13dce1c6a1ee0a322137b74169fdff', 'olga', 1788339600),
	(2, 'approved', '42518a628fd58f800b63ae9a953c893f87d238385a05879ada9462c928417ebb', 'olga', 1788346800);
INSERT INTO public.payout_events VALUES
	(1, 0, 'draft', NULL, 'olga', '1 payees, 100000 sat, digest 56c57423b57ca0c60a416f8ad1a8c0b2eb13dce1c6a1ee0a322137b74169fdff', 1788339600, 11),
	(1, 1, 'approved', NULL, 'dmitri', 'approved with a fee cap of 10000 sat', 1788339660, NULL),
	(1, 2, 'broadcast', 1, 'olga', 'found on the chain: 6df3dea00c538ee5b369370b7022d6e453d5d8ec9a3fc720775d8070f244e345', 1788343200, NULL),
	(2, 0, 'draft', NULL, 'olga', '1 payees, 150000 sat, digest 42518a628fd58f800b63ae9a953c893f87d238385a05879ada9462c928417ebb', 1788346800, 12),
	(2, 1, 'approved', NULL, 'dmitri', 'approved with a fee cap of 10000 sat', 1788346860, NULL);
INSERT INTO public.payout_inputs VALUES
	(1, 1, 0, '0000000000000000000000000000000000000000000000000000000000000001', 0, 151000, '00142222222222222222222222222222222222222222');
INSERT INTO public.payout_items VALUES
	(1, 0, 1, 'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq', '00141111111111111111111111111111111111111111', 100000),
	(2, 0, 1, 'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq', '00141111111111111111111111111111111111111111', 150000);
INSERT INTO public.rate_epochs VALUES
	(1, 386089497, 1000100, 312500000, NULL, 1788354000, NULL, NULL, 0);
INSERT INTO public.rate_hours VALUES
	(1, 496728, 18, 63000, 63000, 0),
	(1, 496731, 18, 63021, 63021, 0),
	(1, 496734, 18, 63042, 63042, 0),
	(1, 496737, 18, 63063, 63063, 0),
	(1, 496740, 18, 63084, 63084, 0),
	(1, 496743, 18, 63105, 63105, 0),
	(1, 496746, 18, 63126, 63126, 0),
	(1, 496749, 18, 63147, 63147, 0),
	(1, 496752, 18, 63168, 63168, 0),
	(1, 496755, 18, 63189, 63189, 0),
	(1, 496758, 18, 63210, 63210, 0),
	(1, 496761, 18, 63231, 63231, 0);
INSERT INTO public.rates VALUES
	(1, 1, 'fpps', 250, 386013762, 1000000, 312500000, 4000009, 1, 1788220800, NULL, NULL, NULL);
INSERT INTO public.settled_shares VALUES
	(1, 18, 63000),
	(2, 18, 63021),
	(3, 18, 63042),
	(4, 18, 63063),
	(5, 18, 63084),
	(6, 18, 63105),
	(7, 18, 63126),
	(8, 18, 63147),
	(9, 18, 63168),
	(10, 18, 63189),
	(11, 18, 63210),
	(12, 18, 63231);
INSERT INTO public.settlements VALUES
	(1, 1, 1, 496728, 0, 38069, 399427447306, 0, 38069, 399427447306, 976, 138446857623, 0, 976, 138446857623, 2, 1788264090),
	(2, 1, 1, 496731, 0, 38082, 89227256455, 399427447306, 38082, 488654703761, 976, 463826339909, 138446857623, 976, 602273197532, 3, 1788264090),
	(3, 1, 1, 496734, 0, 38094, 779027065604, 488654703761, 38095, 267681769365, 976, 789205822194, 602273197532, 977, 391479019726, 4, 1788264090),
	(4, 1, 1, 496737, 0, 38107, 468826874753, 267681769365, 38107, 736508644118, 977, 114585304480, 391479019726, 977, 506064324206, 5, 1788264090),
	(5, 1, 1, 496740, 0, 38120, 158626683902, 736508644118, 38120, 895135328020, 977, 439964786766, 506064324206, 977, 946029110972, 7, 1788307290),
	(6, 1, 1, 496743, 0, 38132, 848426493051, 895135328020, 38133, 743561821071, 977, 765344269052, 946029110972, 978, 711373380024, 8, 1788307290),
	(7, 1, 1, 496746, 0, 38145, 538226302201, 743561821071, 38146, 281788123272, 978, 90723751338, 711373380024, 978, 802097131362, 9, 1788307290),
	(8, 1, 1, 496749, 0, 38158, 228026111350, 281788123272, 38158, 509814234622, 978, 416103233624, 802097131362, 979, 218200364986, 10, 1788307290),
	(9, 1, 1, 496752, 0, 38170, 917825920499, 509814234622, 38171, 427640155121, 978, 741482715910, 218200364986, 978, 959683080896, 13, 1788350490),
	(10, 1, 1, 496755, 0, 38183, 607625729648, 427640155121, 38184, 35265884769, 979, 66862198196, 959683080896, 980, 26545279092, 14, 1788350490),
	(11, 1, 1, 496758, 0, 38196, 297425538797, 35265884769, 38196, 332691423566, 979, 392241680481, 26545279092, 979, 418786959573, 15, 1788350490),
	(12, 1, 1, 496761, 0, 38208, 987225347946, 332691423566, 38209, 319916771512, 979, 717621162767, 418786959573, 980, 136408122340, 16, 1788350490);
INSERT INTO public.sites VALUES
	(1, 'Bratsk', 1788220800);
INSERT INTO public.tally_minutes VALUES
	(29803685, 100, 1, 18, 0, 9000),
	(29803685, 100, 1, 18, 5, 2),
	(29803685, 1000, 1, 18, 0, 9000),
	(29803685, 1000, 1, 18, 5, 2),
	(29803685, 1001, 1, 18, 0, 9000),
	(29803685, 1001, 1, 18, 5, 2),
	(29803685, 1002, 1, 18, 0, 9000),
	(29803685, 1002, 1, 18, 5, 2),
	(29803685, 1003, 1, 18, 0, 9000),
	(29803685, 1003, 1, 18, 5, 2),
	(29803685, 1004, 1, 18, 0, 9000),
	(29803685, 1004, 1, 18, 5, 2),
	(29803685, 1005, 1, 18, 0, 9000),
	(29803685, 1005, 1, 18, 5, 2),
	(29803865, 100, 1, 18, 0, 9003),
	(29803865, 100, 1, 18, 5, 2),
	(29803865, 1000, 1, 18, 0, 9003),
	(29803865, 1000, 1, 18, 5, 2),
	(29803865, 1001, 1, 18, 0, 9003),
	(29803865, 1001, 1, 18, 5, 2),
	(29803865, 1002, 1, 18, 0, 9003),
	(29803865, 1002, 1, 18, 5, 2),
	(29803865, 1003, 1, 18, 0, 9003),
	(29803865, 1003, 1, 18, 5, 2),
	(29803865, 1004, 1, 18, 0, 9003),
	(29803865, 1004, 1, 18, 5, 2),
	(29803865, 1005, 1, 18, 0, 9003),
	(29803865, 1005, 1, 18, 5, 2),
	(29804045, 100, 1, 18, 0, 9006),
	(29804045, 100, 1, 18, 5, 2),
	(29804045, 1000, 1, 18, 0, 9006),
	(29804045, 1000, 1, 18, 5, 2),
	(29804045, 1001, 1, 18, 0, 9006),
	(29804045, 1001, 1, 18, 5, 2),
	(29804045, 1002, 1, 18, 0, 9006),
	(29804045, 1002, 1, 18, 5, 2),
	(29804045, 1003, 1, 18, 0, 9006),
	(29804045, 1003, 1, 18, 5, 2),
	(29804045, 1004, 1, 18, 0, 9006),
	(29804045, 1004, 1, 18, 5, 2),
	(29804045, 1005, 1, 18, 0, 9006),
	(29804045, 1005, 1, 18, 5, 2),
	(29804225, 100, 1, 18, 0, 9009),
	(29804225, 100, 1, 18, 5, 2),
	(29804225, 1000, 1, 18, 0, 9009),
	(29804225, 1000, 1, 18, 5, 2),
	(29804225, 1001, 1, 18, 0, 9009),
	(29804225, 1001, 1, 18, 5, 2),
	(29804225, 1002, 1, 18, 0, 9009),
	(29804225, 1002, 1, 18, 5, 2),
	(29804225, 1003, 1, 18, 0, 9009),
	(29804225, 1003, 1, 18, 5, 2),
	(29804225, 1004, 1, 18, 0, 9009),
	(29804225, 1004, 1, 18, 5, 2),
	(29804225, 1005, 1, 18, 0, 9009),
	(29804225, 1005, 1, 18, 5, 2),
	(29804405, 100, 1, 18, 0, 9012),
	(29804405, 100, 1, 18, 5, 2),
	(29804405, 1000, 1, 18, 0, 9012),
	(29804405, 1000, 1, 18, 5, 2),
	(29804405, 1001, 1, 18, 0, 9012),
	(29804405, 1001, 1, 18, 5, 2),
	(29804405, 1002, 1, 18, 0, 9012),
	(29804405, 1002, 1, 18, 5, 2),
	(29804405, 1003, 1, 18, 0, 9012),
	(29804405, 1003, 1, 18, 5, 2),
	(29804405, 1004, 1, 18, 0, 9012),
	(29804405, 1004, 1, 18, 5, 2),
	(29804405, 1005, 1, 18, 0, 9012),
	(29804405, 1005, 1, 18, 5, 2),
	(29804585, 100, 1, 18, 0, 9015),
	(29804585, 100, 1, 18, 5, 2),
	(29804585, 1000, 1, 18, 0, 9015),
	(29804585, 1000, 1, 18, 5, 2),
	(29804585, 1001, 1, 18, 0, 9015),
	(29804585, 1001, 1, 18, 5, 2),
	(29804585, 1002, 1, 18, 0, 9015),
	(29804585, 1002, 1, 18, 5, 2),
	(29804585, 1003, 1, 18, 0, 9015),
	(29804585, 1003, 1, 18, 5, 2),
	(29804585, 1004, 1, 18, 0, 9015),
	(29804585, 1004, 1, 18, 5, 2),
	(29804585, 1005, 1, 18, 0, 9015),
	(29804585, 1005, 1, 18, 5, 2),
	(29804765, 100, 1, 18, 0, 9018),
	(29804765, 100, 1, 18, 5, 2),
	(29804765, 1000, 1, 18, 0, 9018),
	(29804765, 1000, 1, 18, 5, 2),
	(29804765, 1001, 1, 18, 0, 9018),
	(29804765, 1001, 1, 18, 5, 2),
	(29804765, 1002, 1, 18, 0, 9018),
	(29804765, 1002, 1, 18, 5, 2),
	(29804765, 1003, 1, 18, 0, 9018),
	(29804765, 1003, 1, 18, 5, 2),
	(29804765, 1004, 1, 18, 0, 9018),
	(29804765, 1004, 1, 18, 5, 2),
	(29804765, 1005, 1, 18, 0, 9018),
	(29804765, 1005, 1, 18, 5, 2),
	(29804945, 100, 1, 18, 0, 9021),
	(29804945, 100, 1, 18, 5, 2),
	(29804945, 1000, 1, 18, 0, 9021),
	(29804945, 1000, 1, 18, 5, 2),
	(29804945, 1001, 1, 18, 0, 9021),
	(29804945, 1001, 1, 18, 5, 2),
	(29804945, 1002, 1, 18, 0, 9021),
	(29804945, 1002, 1, 18, 5, 2),
	(29804945, 1003, 1, 18, 0, 9021),
	(29804945, 1003, 1, 18, 5, 2),
	(29804945, 1004, 1, 18, 0, 9021),
	(29804945, 1004, 1, 18, 5, 2),
	(29804945, 1005, 1, 18, 0, 9021),
	(29804945, 1005, 1, 18, 5, 2),
	(29805125, 100, 1, 18, 0, 9024),
	(29805125, 100, 1, 18, 5, 2),
	(29805125, 1000, 1, 18, 0, 9024),
	(29805125, 1000, 1, 18, 5, 2),
	(29805125, 1001, 1, 18, 0, 9024),
	(29805125, 1001, 1, 18, 5, 2),
	(29805125, 1002, 1, 18, 0, 9024),
	(29805125, 1002, 1, 18, 5, 2),
	(29805125, 1003, 1, 18, 0, 9024),
	(29805125, 1003, 1, 18, 5, 2),
	(29805125, 1004, 1, 18, 0, 9024),
	(29805125, 1004, 1, 18, 5, 2),
	(29805125, 1005, 1, 18, 0, 9024),
	(29805125, 1005, 1, 18, 5, 2),
	(29805305, 100, 1, 18, 0, 9027),
	(29805305, 100, 1, 18, 5, 2),
	(29805305, 1000, 1, 18, 0, 9027),
	(29805305, 1000, 1, 18, 5, 2),
	(29805305, 1001, 1, 18, 0, 9027),
	(29805305, 1001, 1, 18, 5, 2),
	(29805305, 1002, 1, 18, 0, 9027),
	(29805305, 1002, 1, 18, 5, 2),
	(29805305, 1003, 1, 18, 0, 9027),
	(29805305, 1003, 1, 18, 5, 2),
	(29805305, 1004, 1, 18, 0, 9027),
	(29805305, 1004, 1, 18, 5, 2),
	(29805305, 1005, 1, 18, 0, 9027),
	(29805305, 1005, 1, 18, 5, 2),
	(29805485, 100, 1, 18, 0, 9030),
	(29805485, 100, 1, 18, 5, 2),
	(29805485, 1000, 1, 18, 0, 9030),
	(29805485, 1000, 1, 18, 5, 2),
	(29805485, 1001, 1, 18, 0, 9030),
	(29805485, 1001, 1, 18, 5, 2),
	(29805485, 1002, 1, 18, 0, 9030),
	(29805485, 1002, 1, 18, 5, 2),
	(29805485, 1003, 1, 18, 0, 9030),
	(29805485, 1003, 1, 18, 5, 2),
	(29805485, 1004, 1, 18, 0, 9030),
	(29805485, 1004, 1, 18, 5, 2),
	(29805485, 1005, 1, 18, 0, 9030),
	(29805485, 1005, 1, 18, 5, 2),
	(29805665, 100, 1, 18, 0, 9033),
	(29805665, 100, 1, 18, 5, 2),
	(29805665, 1000, 1, 18, 0, 9033),
	(29805665, 1000, 1, 18, 5, 2),
	(29805665, 1001, 1, 18, 0, 9033),
	(29805665, 1001, 1, 18, 5, 2),
	(29805665, 1002, 1, 18, 0, 9033),
	(29805665, 1002, 1, 18, 5, 2),
	(29805665, 1003, 1, 18, 0, 9033),
	(29805665, 1003, 1, 18, 5, 2),
	(29805665, 1004, 1, 18, 0, 9033),
	(29805665, 1004, 1, 18, 5, 2),
	(29805665, 1005, 1, 18, 0, 9033),
	(29805665, 1005, 1, 18, 5, 2);
INSERT INTO public.tenant_addresses VALUES
	(1, 1, 'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq', 1788134400, 'olga', 1788134400),
	(2, 1, 'bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr', 1788350400, 'olga', 1788609600);
INSERT INTO public.tenant_terms VALUES
	(1, 1, 'fpps', 250, 0, 1788134400, 'olga', NULL, 'pps', 'tenant'),
	(2, 2, 'fpps', 200, 0, 1788134400, 'olga', NULL, 'pps', 'tenant'),
	(3, 1, 'fpps', 300, 0, 1788292800, 'olga', NULL, 'pps', 'tenant');
INSERT INTO public.tenants VALUES
	(1, 'acme', 'active', 0),
	(2, 'borealis', 'active', 0);
INSERT INTO public.upstream_endpoints VALUES
	(1, 0, 'a.example', 3333, 'acme.farm7', 'hunter2-s3cret', 0, NULL),
	(1, 1, 'b.example', 3333, 'acme.farm7', 'hunter2-s3cret', 0, NULL);
INSERT INTO public.upstreams VALUES
	(1, 'north', NULL, 30, 1, NULL, 'active', 1788220800, 'olga');
INSERT INTO public.workers VALUES
	(100, 1, 1, 'u0', NULL, NULL, 0, 0, NULL),
	(101, 1, 1, 'u1', NULL, NULL, 0, 0, NULL),
	(200, 2, 2, 'u0', NULL, NULL, 0, 0, NULL),
	(201, 2, 2, 'u1', NULL, NULL, 0, 0, NULL),
	(1000, 1, 1, '=HYPERLINK("http://x","y")', NULL, NULL, 0, 0, NULL),
	(1001, 1, 1, '+1', NULL, NULL, 0, 0, NULL),
	(1002, 1, 1, '-2+3', NULL, NULL, 0, 0, NULL),
	(1003, 1, 1, '@SUM(A1)', NULL, NULL, 0, 0, NULL),
	(1004, 1, 1, '<script>alert(1)</script>', NULL, NULL, 0, 0, NULL),
	(1005, 1, 1, 'Шахта-7', NULL, NULL, 0, 0, NULL);
SELECT pg_catalog.setval('public.book_id_seq', 1, false);
SELECT pg_catalog.setval('public.channel_events_id_seq', 1, false);
SELECT pg_catalog.setval('public.containers_id_seq', 1, false);
SELECT pg_catalog.setval('public.payout_approvals_id_seq', 2, true);
SELECT pg_catalog.setval('public.sites_id_seq', 1, true);
SELECT pg_catalog.setval('public.tenant_addresses_id_seq', 2, true);
SELECT pg_catalog.setval('public.tenant_terms_id_seq', 3, true);
SELECT pg_catalog.setval('public.workers_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.block_events
    ADD CONSTRAINT pk_block_events PRIMARY KEY (block_hash, "position");
ALTER TABLE ONLY public.blocks
    ADD CONSTRAINT pk_blocks PRIMARY KEY (hash);
ALTER TABLE ONLY public.book
    ADD CONSTRAINT pk_book PRIMARY KEY (id);
ALTER TABLE ONLY public.channel_events
    ADD CONSTRAINT pk_channel_events PRIMARY KEY (id);
ALTER TABLE ONLY public.confirmations
    ADD CONSTRAINT pk_confirmations PRIMARY KEY (proposal_id);
ALTER TABLE ONLY public.containers
    ADD CONSTRAINT pk_containers PRIMARY KEY (id);
ALTER TABLE ONLY public.fee_bases
    ADD CONSTRAINT pk_fee_bases PRIMARY KEY (id);
ALTER TABLE ONLY public.fee_basis_blocks
    ADD CONSTRAINT pk_fee_basis_blocks PRIMARY KEY (fee_basis_id, block_hash);
ALTER TABLE ONLY public.journal_batches
    ADD CONSTRAINT pk_journal_batches PRIMARY KEY (seq);
ALTER TABLE ONLY public.journal_writers
    ADD CONSTRAINT pk_journal_writers PRIMARY KEY (writer);
ALTER TABLE ONLY public.ledger_accounts
    ADD CONSTRAINT pk_ledger_accounts PRIMARY KEY (name);
ALTER TABLE ONLY public.ledger_transactions
    ADD CONSTRAINT pk_ledger_transactions PRIMARY KEY (seq);
ALTER TABLE ONLY public.ledger_transfers
    ADD CONSTRAINT pk_ledger_transfers PRIMARY KEY (transaction_seq, "position");
ALTER TABLE ONLY public.order_hours
    ADD CONSTRAINT pk_order_hours PRIMARY KEY (order_id, hour);
ALTER TABLE ONLY public.order_suppliers
    ADD CONSTRAINT pk_order_suppliers PRIMARY KEY (order_id, tenant_id, container_id);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT pk_orders PRIMARY KEY (id);
ALTER TABLE ONLY public.payout_approvals
    ADD CONSTRAINT pk_payout_approvals PRIMARY KEY (id);
ALTER TABLE ONLY public.payout_attempts
    ADD CONSTRAINT pk_payout_attempts PRIMARY KEY (batch_id, attempt);
ALTER TABLE ONLY public.payout_batches
    ADD CONSTRAINT pk_payout_batches PRIMARY KEY (id);
ALTER TABLE ONLY public.payout_events
    ADD CONSTRAINT pk_payout_events PRIMARY KEY (batch_id, "position");
ALTER TABLE ONLY public.payout_inputs
    ADD CONSTRAINT pk_payout_inputs PRIMARY KEY (batch_id, attempt, "position");
ALTER TABLE ONLY public.payout_items
    ADD CONSTRAINT pk_payout_items PRIMARY KEY (batch_id, "position");
ALTER TABLE ONLY public.payout_strangers
    ADD CONSTRAINT pk_payout_strangers PRIMARY KEY (txid, anchor);
ALTER TABLE ONLY public.proposals
    ADD CONSTRAINT pk_proposals PRIMARY KEY (id);
ALTER TABLE ONLY public.rate_epoch_tenants
    ADD CONSTRAINT pk_rate_epoch_tenants PRIMARY KEY (epoch, tenant_id);
ALTER TABLE ONLY public.rate_epochs
    ADD CONSTRAINT pk_rate_epochs PRIMARY KEY (epoch);
ALTER TABLE ONLY public.rate_hours
    ADD CONSTRAINT pk_rate_hours PRIMARY KEY (rate_id, hour, difficulty_log2);
ALTER TABLE ONLY public.rates
    ADD CONSTRAINT pk_rates PRIMARY KEY (id);
ALTER TABLE ONLY public.settled_shares
    ADD CONSTRAINT pk_settled_shares PRIMARY KEY (settlement_seq, difficulty_log2);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT pk_settlements PRIMARY KEY (seq);
ALTER TABLE ONLY public.sibling_blocks
    ADD CONSTRAINT pk_sibling_blocks PRIMARY KEY (parent_hash, worker_id, pays_pool);
ALTER TABLE ONLY public.sites
    ADD CONSTRAINT pk_sites PRIMARY KEY (id);
ALTER TABLE ONLY public.solo_blocks
    ADD CONSTRAINT pk_solo_blocks PRIMARY KEY (block_hash);
ALTER TABLE ONLY public.tally_days
    ADD CONSTRAINT pk_tally_days PRIMARY KEY (worker_id, day, rate_id, difficulty_log2, verdict);
ALTER TABLE ONLY public.tally_hours
    ADD CONSTRAINT pk_tally_hours PRIMARY KEY (worker_id, hour, rate_id, difficulty_log2, verdict);
ALTER TABLE ONLY public.tally_minutes
    ADD CONSTRAINT pk_tally_minutes PRIMARY KEY (minute, worker_id, rate_id, difficulty_log2, verdict);
ALTER TABLE ONLY public.tenant_addresses
    ADD CONSTRAINT pk_tenant_addresses PRIMARY KEY (id);
ALTER TABLE ONLY public.tenant_terms
    ADD CONSTRAINT pk_tenant_terms PRIMARY KEY (id);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT pk_tenants PRIMARY KEY (id);
ALTER TABLE ONLY public.upstream_credits
    ADD CONSTRAINT pk_upstream_credits PRIMARY KEY (seq);
ALTER TABLE ONLY public.upstream_days
    ADD CONSTRAINT pk_upstream_days PRIMARY KEY (day, worker_id, upstream_id, verdict);
ALTER TABLE ONLY public.upstream_endpoints
    ADD CONSTRAINT pk_upstream_endpoints PRIMARY KEY (upstream_id, "position");
ALTER TABLE ONLY public.upstream_hours
    ADD CONSTRAINT pk_upstream_hours PRIMARY KEY (hour, tenant_id, upstream_id, order_id, target, verdict, reason);
ALTER TABLE ONLY public.upstream_submits
    ADD CONSTRAINT pk_upstream_submits PRIMARY KEY (key);
ALTER TABLE ONLY public.upstream_tips
    ADD CONSTRAINT pk_upstream_tips PRIMARY KEY (id);
ALTER TABLE ONLY public.upstreams
    ADD CONSTRAINT pk_upstreams PRIMARY KEY (id);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT pk_workers PRIMARY KEY (id);
ALTER TABLE ONLY public.block_events
    ADD CONSTRAINT uq_block_events_transaction_seq UNIQUE (transaction_seq);
ALTER TABLE ONLY public.confirmations
    ADD CONSTRAINT uq_confirmations_transaction_seq UNIQUE (transaction_seq);
ALTER TABLE ONLY public.containers
    ADD CONSTRAINT uq_containers_tenant_id_name UNIQUE (tenant_id, name);
ALTER TABLE ONLY public.ledger_accounts
    ADD CONSTRAINT uq_ledger_accounts_tenant_id_kind UNIQUE (tenant_id, kind);
ALTER TABLE ONLY public.ledger_transactions
    ADD CONSTRAINT uq_ledger_transactions_hash UNIQUE (hash);
ALTER TABLE ONLY public.ledger_transactions
    ADD CONSTRAINT uq_ledger_transactions_idempotency_key UNIQUE (idempotency_key);
ALTER TABLE ONLY public.ledger_transactions
    ADD CONSTRAINT uq_ledger_transactions_prev_hash UNIQUE (prev_hash);
ALTER TABLE ONLY public.ledger_transactions
    ADD CONSTRAINT uq_ledger_transactions_reverses_seq UNIQUE (reverses_seq);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT uq_orders_name UNIQUE (name);
ALTER TABLE ONLY public.payout_attempts
    ADD CONSTRAINT uq_payout_attempts_txid UNIQUE (txid);
ALTER TABLE ONLY public.payout_events
    ADD CONSTRAINT uq_payout_events_transaction_seq UNIQUE (transaction_seq);
ALTER TABLE ONLY public.rates
    ADD CONSTRAINT uq_rates_id_tenant_id UNIQUE (id, tenant_id);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT uq_settlements_rate_id_hour_part UNIQUE (rate_id, hour, part);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT uq_settlements_transaction_seq UNIQUE (transaction_seq);
ALTER TABLE ONLY public.sites
    ADD CONSTRAINT uq_sites_name UNIQUE (name);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT uq_tenants_name UNIQUE (name);
ALTER TABLE ONLY public.upstream_tips
    ADD CONSTRAINT uq_upstream_tips_prevhash UNIQUE (prevhash);
ALTER TABLE ONLY public.upstreams
    ADD CONSTRAINT uq_upstreams_name UNIQUE (name);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT uq_workers_container_id_unit UNIQUE (container_id, unit);
CREATE INDEX ix_channel_events_at_s ON public.channel_events USING btree (at_s);
CREATE INDEX ix_containers_site_id ON public.containers USING btree (site_id);
CREATE INDEX ix_ledger_transfers_from_account_amount_sat ON public.ledger_transfers USING btree (from_account, amount_sat);
CREATE INDEX ix_ledger_transfers_to_account_amount_sat ON public.ledger_transfers USING btree (to_account, amount_sat);
CREATE INDEX ix_payout_approvals_batch_id ON public.payout_approvals USING btree (batch_id);
CREATE UNIQUE INDEX ix_payout_batches_draft ON public.payout_batches USING btree (state) WHERE (state = 'draft'::text);
CREATE INDEX ix_payout_inputs_txid_vout ON public.payout_inputs USING btree (txid, vout);
CREATE INDEX ix_payout_items_tenant_id ON public.payout_items USING btree (tenant_id);
CREATE INDEX ix_proposals_kind_subject ON public.proposals USING btree (kind, subject);
CREATE INDEX ix_rate_hours_unsettled ON public.rate_hours USING btree (hour) WHERE (settled < shares);
CREATE INDEX ix_rates_tenant_id_id ON public.rates USING btree (tenant_id, id);
CREATE INDEX ix_settlements_tenant_id_hour ON public.settlements USING btree (tenant_id, hour);
CREATE INDEX ix_settlements_tenant_id_seq ON public.settlements USING btree (tenant_id, seq);
CREATE INDEX ix_solo_blocks_tenant_id ON public.solo_blocks USING btree (tenant_id);
CREATE INDEX ix_tenant_addresses_tenant_id ON public.tenant_addresses USING btree (tenant_id);
CREATE INDEX ix_tenant_terms_tenant_id ON public.tenant_terms USING btree (tenant_id);
CREATE INDEX ix_upstream_credits_tip_id_seq ON public.upstream_credits USING btree (tip_id, seq);
CREATE INDEX ix_workers_tenant_id ON public.workers USING btree (tenant_id);
CREATE TRIGGER block_events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.block_events FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('block_events is append-only');
CREATE TRIGGER blocks_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.blocks FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('blocks is append-only');
CREATE TRIGGER book_no_delete BEFORE DELETE OR TRUNCATE ON public.book FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('book only grows');
CREATE TRIGGER book_only_grows BEFORE UPDATE ON public.book FOR EACH ROW WHEN (((new.id <> old.id) OR (new.ordered_from_seq <> old.ordered_from_seq) OR (new.ordered_from_s <> old.ordered_from_s) OR (new.based_from_rate <> old.based_from_rate) OR (new.latest_s < old.latest_s) OR (new.lease_epoch < old.lease_epoch))) EXECUTE FUNCTION public.angara_refuse('book only grows');
CREATE TRIGGER book_set_once BEFORE UPDATE ON public.book FOR EACH ROW WHEN ((((old.network IS NOT NULL) AND ((new.network IS NULL) OR (new.network <> old.network))) OR ((old.genesis IS NOT NULL) AND ((new.genesis IS NULL) OR (new.genesis <> old.genesis))) OR ((old.signet_challenge IS NOT NULL) AND ((new.signet_challenge IS NULL) OR (new.signet_challenge <> old.signet_challenge))))) EXECUTE FUNCTION public.angara_refuse('what book is bound to never changes');
CREATE TRIGGER channel_events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.channel_events FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('channel_events is append-only');
CREATE TRIGGER confirmations_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.confirmations FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('confirmations is append-only');
CREATE TRIGGER fee_bases_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.fee_bases FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('fee_bases is append-only');
CREATE TRIGGER fee_basis_blocks_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.fee_basis_blocks FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('fee_basis_blocks is append-only');
CREATE TRIGGER ledger_accounts_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_accounts FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('ledger_accounts is append-only');
CREATE TRIGGER ledger_transactions_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_transactions FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('ledger_transactions is append-only');
CREATE TRIGGER ledger_transfers_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_transfers FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('ledger_transfers is append-only');
CREATE TRIGGER orders_no_delete BEFORE DELETE OR TRUNCATE ON public.orders FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('orders only grows');
CREATE TRIGGER orders_only_grows BEFORE UPDATE ON public.orders FOR EACH ROW WHEN (((new.id <> old.id) OR (new.name <> old.name) OR (new.buyer <> old.buyer) OR (new.upstream_id <> old.upstream_id) OR (new.hashrate_ths <> old.hashrate_ths) OR (new.tolerance_bps <> old.tolerance_bps) OR (new.from_s <> old.from_s) OR (new.until_s <> old.until_s) OR (new.priority <> old.priority) OR (new.sat_per_ph_day <> old.sat_per_ph_day) OR (new.created_at_s <> old.created_at_s) OR (new.created_by <> old.created_by))) EXECUTE FUNCTION public.angara_refuse('orders only grows');
CREATE TRIGGER payout_approvals_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.payout_approvals FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('payout_approvals is append-only');
CREATE TRIGGER payout_events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.payout_events FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('payout_events is append-only');
CREATE TRIGGER payout_inputs_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.payout_inputs FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('payout_inputs is append-only');
CREATE TRIGGER payout_items_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.payout_items FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('payout_items is append-only');
CREATE TRIGGER payout_strangers_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.payout_strangers FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('payout_strangers is append-only');
CREATE TRIGGER proposals_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.proposals FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('proposals is append-only');
CREATE TRIGGER rate_epoch_tenants_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.rate_epoch_tenants FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('rate_epoch_tenants is append-only');
CREATE TRIGGER rate_epochs_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.rate_epochs FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('rate_epochs is append-only');
CREATE TRIGGER rate_hours_no_delete BEFORE DELETE OR TRUNCATE ON public.rate_hours FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('rate_hours only grows');
CREATE TRIGGER rate_hours_only_grows BEFORE UPDATE ON public.rate_hours FOR EACH ROW WHEN (((new.rate_id <> old.rate_id) OR (new.hour <> old.hour) OR (new.difficulty_log2 <> old.difficulty_log2) OR (new.shares < old.shares) OR (new.settled < old.settled))) EXECUTE FUNCTION public.angara_refuse('rate_hours only grows');
CREATE TRIGGER rates_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.rates FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('rates is append-only');
CREATE TRIGGER settled_shares_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.settled_shares FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('settled_shares is append-only');
CREATE TRIGGER settlements_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.settlements FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('settlements is append-only');
CREATE TRIGGER sibling_blocks_no_delete BEFORE DELETE OR TRUNCATE ON public.sibling_blocks FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('sibling_blocks only grows');
CREATE TRIGGER sibling_blocks_only_grows BEFORE UPDATE ON public.sibling_blocks FOR EACH ROW WHEN (((new.parent_hash <> old.parent_hash) OR (new.worker_id <> old.worker_id) OR (new.pays_pool <> old.pays_pool) OR (new.height <> old.height) OR (new.found_at_s <> old.found_at_s) OR (new.blocks < old.blocks))) EXECUTE FUNCTION public.angara_refuse('sibling_blocks only grows');
CREATE TRIGGER solo_blocks_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.solo_blocks FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('solo_blocks is append-only');
CREATE TRIGGER tenant_addresses_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.tenant_addresses FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('tenant_addresses is append-only');
CREATE TRIGGER tenant_terms_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.tenant_terms FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('tenant_terms is append-only');
CREATE TRIGGER upstream_hours_no_delete BEFORE DELETE OR TRUNCATE ON public.upstream_hours FOR EACH STATEMENT EXECUTE FUNCTION public.angara_refuse('upstream_hours only grows');
CREATE TRIGGER upstream_hours_only_grows BEFORE UPDATE ON public.upstream_hours FOR EACH ROW WHEN (((new.hour <> old.hour) OR (new.tenant_id <> old.tenant_id) OR (new.upstream_id <> old.upstream_id) OR (new.order_id <> old.order_id) OR (new.target <> old.target) OR (new.verdict <> old.verdict) OR (new.reason <> old.reason) OR (new.shares < old.shares))) EXECUTE FUNCTION public.angara_refuse('upstream_hours only grows');
ALTER TABLE ONLY public.block_events
    ADD CONSTRAINT fk_block_events_block_hash FOREIGN KEY (block_hash) REFERENCES public.blocks(hash);
ALTER TABLE ONLY public.block_events
    ADD CONSTRAINT fk_block_events_transaction_seq FOREIGN KEY (transaction_seq) REFERENCES public.ledger_transactions(seq);
ALTER TABLE ONLY public.blocks
    ADD CONSTRAINT fk_blocks_worker_id FOREIGN KEY (worker_id) REFERENCES public.workers(id);
ALTER TABLE ONLY public.channel_events
    ADD CONSTRAINT fk_channel_events_order_id FOREIGN KEY (order_id) REFERENCES public.orders(id);
ALTER TABLE ONLY public.channel_events
    ADD CONSTRAINT fk_channel_events_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.confirmations
    ADD CONSTRAINT fk_confirmations_proposal_id FOREIGN KEY (proposal_id) REFERENCES public.proposals(id);
ALTER TABLE ONLY public.confirmations
    ADD CONSTRAINT fk_confirmations_transaction_seq FOREIGN KEY (transaction_seq) REFERENCES public.ledger_transactions(seq);
ALTER TABLE ONLY public.containers
    ADD CONSTRAINT fk_containers_site_id FOREIGN KEY (site_id) REFERENCES public.sites(id);
ALTER TABLE ONLY public.containers
    ADD CONSTRAINT fk_containers_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.fee_basis_blocks
    ADD CONSTRAINT fk_fee_basis_blocks_fee_basis_id FOREIGN KEY (fee_basis_id) REFERENCES public.fee_bases(id);
ALTER TABLE ONLY public.ledger_accounts
    ADD CONSTRAINT fk_ledger_accounts_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.ledger_transactions
    ADD CONSTRAINT fk_ledger_transactions_reverses_seq FOREIGN KEY (reverses_seq) REFERENCES public.ledger_transactions(seq);
ALTER TABLE ONLY public.ledger_transfers
    ADD CONSTRAINT fk_ledger_transfers_from_account FOREIGN KEY (from_account) REFERENCES public.ledger_accounts(name);
ALTER TABLE ONLY public.ledger_transfers
    ADD CONSTRAINT fk_ledger_transfers_to_account FOREIGN KEY (to_account) REFERENCES public.ledger_accounts(name);
ALTER TABLE ONLY public.ledger_transfers
    ADD CONSTRAINT fk_ledger_transfers_transaction_seq FOREIGN KEY (transaction_seq) REFERENCES public.ledger_transactions(seq);
ALTER TABLE ONLY public.order_hours
    ADD CONSTRAINT fk_order_hours_order_id FOREIGN KEY (order_id) REFERENCES public.orders(id);
ALTER TABLE ONLY public.order_suppliers
    ADD CONSTRAINT fk_order_suppliers_order_id FOREIGN KEY (order_id) REFERENCES public.orders(id);
ALTER TABLE ONLY public.order_suppliers
    ADD CONSTRAINT fk_order_suppliers_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT fk_orders_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.payout_approvals
    ADD CONSTRAINT fk_payout_approvals_batch_id FOREIGN KEY (batch_id) REFERENCES public.payout_batches(id);
ALTER TABLE ONLY public.payout_attempts
    ADD CONSTRAINT fk_payout_attempts_batch_id FOREIGN KEY (batch_id) REFERENCES public.payout_batches(id);
ALTER TABLE ONLY public.payout_events
    ADD CONSTRAINT fk_payout_events_batch_id FOREIGN KEY (batch_id) REFERENCES public.payout_batches(id);
ALTER TABLE ONLY public.payout_events
    ADD CONSTRAINT fk_payout_events_transaction_seq FOREIGN KEY (transaction_seq) REFERENCES public.ledger_transactions(seq);
ALTER TABLE ONLY public.payout_inputs
    ADD CONSTRAINT fk_payout_inputs_batch_id_attempt FOREIGN KEY (batch_id, attempt) REFERENCES public.payout_attempts(batch_id, attempt);
ALTER TABLE ONLY public.payout_items
    ADD CONSTRAINT fk_payout_items_batch_id FOREIGN KEY (batch_id) REFERENCES public.payout_batches(id);
ALTER TABLE ONLY public.payout_items
    ADD CONSTRAINT fk_payout_items_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.rate_epoch_tenants
    ADD CONSTRAINT fk_rate_epoch_tenants_epoch FOREIGN KEY (epoch) REFERENCES public.rate_epochs(epoch);
ALTER TABLE ONLY public.rate_epoch_tenants
    ADD CONSTRAINT fk_rate_epoch_tenants_rate_id FOREIGN KEY (rate_id) REFERENCES public.rates(id);
ALTER TABLE ONLY public.rate_epoch_tenants
    ADD CONSTRAINT fk_rate_epoch_tenants_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.rate_epochs
    ADD CONSTRAINT fk_rate_epochs_fee_basis_id FOREIGN KEY (fee_basis_id) REFERENCES public.fee_bases(id);
ALTER TABLE ONLY public.rate_epochs
    ADD CONSTRAINT fk_rate_epochs_order_id FOREIGN KEY (order_id) REFERENCES public.orders(id);
ALTER TABLE ONLY public.rate_epochs
    ADD CONSTRAINT fk_rate_epochs_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.rate_hours
    ADD CONSTRAINT fk_rate_hours_rate_id FOREIGN KEY (rate_id) REFERENCES public.rates(id);
ALTER TABLE ONLY public.rates
    ADD CONSTRAINT fk_rates_fee_basis_id FOREIGN KEY (fee_basis_id) REFERENCES public.fee_bases(id);
ALTER TABLE ONLY public.rates
    ADD CONSTRAINT fk_rates_order_id FOREIGN KEY (order_id) REFERENCES public.orders(id);
ALTER TABLE ONLY public.rates
    ADD CONSTRAINT fk_rates_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.rates
    ADD CONSTRAINT fk_rates_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.settled_shares
    ADD CONSTRAINT fk_settled_shares_settlement_seq FOREIGN KEY (settlement_seq) REFERENCES public.settlements(seq);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT fk_settlements_rate_id_tenant_id FOREIGN KEY (rate_id, tenant_id) REFERENCES public.rates(id, tenant_id);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT fk_settlements_transaction_seq FOREIGN KEY (transaction_seq) REFERENCES public.ledger_transactions(seq);
ALTER TABLE ONLY public.solo_blocks
    ADD CONSTRAINT fk_solo_blocks_block_hash FOREIGN KEY (block_hash) REFERENCES public.blocks(hash);
ALTER TABLE ONLY public.solo_blocks
    ADD CONSTRAINT fk_solo_blocks_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.tally_days
    ADD CONSTRAINT fk_tally_days_worker_id FOREIGN KEY (worker_id) REFERENCES public.workers(id);
ALTER TABLE ONLY public.tally_hours
    ADD CONSTRAINT fk_tally_hours_worker_id FOREIGN KEY (worker_id) REFERENCES public.workers(id);
ALTER TABLE ONLY public.tally_minutes
    ADD CONSTRAINT fk_tally_minutes_worker_id FOREIGN KEY (worker_id) REFERENCES public.workers(id);
ALTER TABLE ONLY public.tenant_addresses
    ADD CONSTRAINT fk_tenant_addresses_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.tenant_terms
    ADD CONSTRAINT fk_tenant_terms_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.tenant_terms
    ADD CONSTRAINT fk_tenant_terms_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.upstream_credits
    ADD CONSTRAINT fk_upstream_credits_tip_id FOREIGN KEY (tip_id) REFERENCES public.upstream_tips(id);
ALTER TABLE ONLY public.upstream_days
    ADD CONSTRAINT fk_upstream_days_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.upstream_days
    ADD CONSTRAINT fk_upstream_days_worker_id FOREIGN KEY (worker_id) REFERENCES public.workers(id);
ALTER TABLE ONLY public.upstream_endpoints
    ADD CONSTRAINT fk_upstream_endpoints_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.upstream_hours
    ADD CONSTRAINT fk_upstream_hours_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
ALTER TABLE ONLY public.upstream_hours
    ADD CONSTRAINT fk_upstream_hours_upstream_id FOREIGN KEY (upstream_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.upstream_submits
    ADD CONSTRAINT fk_upstream_submits_epoch FOREIGN KEY (epoch) REFERENCES public.rate_epochs(epoch);
ALTER TABLE ONLY public.upstream_submits
    ADD CONSTRAINT fk_upstream_submits_worker_id FOREIGN KEY (worker_id) REFERENCES public.workers(id);
ALTER TABLE ONLY public.upstreams
    ADD CONSTRAINT fk_upstreams_fallback_id FOREIGN KEY (fallback_id) REFERENCES public.upstreams(id);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT fk_workers_container_id FOREIGN KEY (container_id) REFERENCES public.containers(id);
ALTER TABLE ONLY public.workers
    ADD CONSTRAINT fk_workers_tenant_id FOREIGN KEY (tenant_id) REFERENCES public.tenants(id);
