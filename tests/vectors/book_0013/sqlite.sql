-- A book of schema 0013, as the code of commit 07559d4 wrote it: two tenants, 36 hours of work settled, a block, a payout
-- that is sent and one that is approved, an upstream, an order, and two batches that the journal had not folded.
-- Made by its own functions (tests/statement_history.py and tests/test_journal.py of then); this is what sqlite3's .dump says of it.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES
('0013');
CREATE TABLE block_events (
	block_hash TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	at_s INTEGER NOT NULL, 
	transaction_seq INTEGER, 
	CONSTRAINT pk_block_events PRIMARY KEY (block_hash, position), 
	CONSTRAINT ck_block_events_status CHECK (status IN ('found', 'pending', 'matured', 'orphaned')), 
	CONSTRAINT fk_block_events_block_hash FOREIGN KEY(block_hash) REFERENCES blocks (hash), 
	CONSTRAINT fk_block_events_transaction_seq FOREIGN KEY(transaction_seq) REFERENCES ledger_transactions (seq), 
	CONSTRAINT uq_block_events_transaction_seq UNIQUE (transaction_seq)
)
 STRICT

;
INSERT INTO "block_events" VALUES
('abababababababababababababababababababababababababababababababab',0,'found',1788220860,NULL),
('abababababababababababababababababababababababababababababababab',1,'pending',1788220860,1),
('abababababababababababababababababababababababababababababababab',2,'matured',1788307200,6);
CREATE TABLE blocks (
	hash TEXT NOT NULL, 
	height INTEGER NOT NULL, 
	worker_id INTEGER, 
	income_sat INTEGER NOT NULL, 
	found_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_blocks PRIMARY KEY (hash), 
	CONSTRAINT ck_blocks_income_sat CHECK (height >= 0 AND income_sat >= 0), 
	CONSTRAINT fk_blocks_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id)
)
 STRICT

;
INSERT INTO "blocks" VALUES
('abababababababababababababababababababababababababababababababab',1000050,1000,316000000,1788220850);
CREATE TABLE book (
	id INTEGER NOT NULL, 
	network TEXT, 
	genesis TEXT, 
	signet_challenge TEXT, 
	latest_s INTEGER NOT NULL, 
	ordered_from_seq INTEGER NOT NULL, 
	based_from_rate INTEGER NOT NULL, 
	lease_epoch INTEGER NOT NULL, 
	lease_holder TEXT, ordered_from_s INTEGER DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_book PRIMARY KEY (id), 
	CONSTRAINT ck_book_id CHECK (id = 1), 
	CONSTRAINT ck_book_genesis CHECK ((network IS NULL) = (genesis IS NULL)), 
	CONSTRAINT ck_book_signet_challenge CHECK (signet_challenge IS NULL OR network = 'signet'), 
	CONSTRAINT ck_book_latest_s CHECK (latest_s >= 0), 
	CONSTRAINT ck_book_lease_epoch CHECK (lease_epoch >= 0)
)
 STRICT

;
INSERT INTO "book" VALUES
(1,NULL,NULL,NULL,1788354000,1,1,23,'process 27543 on vm',0);
CREATE TABLE channel_events (
	id INTEGER NOT NULL, 
	at_s INTEGER NOT NULL, 
	upstream_id INTEGER NOT NULL, 
	order_id INTEGER, 
	event TEXT NOT NULL, 
	words TEXT NOT NULL, 
	sessions INTEGER NOT NULL, 
	CONSTRAINT pk_channel_events PRIMARY KEY (id), 
	CONSTRAINT ck_channel_events_event CHECK (event IN ('served', 'lost', 'fell_back', 'returned', 'switched')), 
	CONSTRAINT ck_channel_events_sessions CHECK (sessions >= 0), 
	CONSTRAINT fk_channel_events_order_id FOREIGN KEY(order_id) REFERENCES orders (id), 
	CONSTRAINT fk_channel_events_upstream_id FOREIGN KEY(upstream_id) REFERENCES upstreams (id)
)
 STRICT

;
CREATE TABLE confirmations (
	proposal_id INTEGER NOT NULL, 
	confirmed_by TEXT NOT NULL, 
	confirmed_at_s INTEGER NOT NULL, 
	transaction_seq INTEGER, 
	CONSTRAINT pk_confirmations PRIMARY KEY (proposal_id), 
	CONSTRAINT fk_confirmations_proposal_id FOREIGN KEY(proposal_id) REFERENCES proposals (id), 
	CONSTRAINT fk_confirmations_transaction_seq FOREIGN KEY(transaction_seq) REFERENCES ledger_transactions (seq), 
	CONSTRAINT uq_confirmations_transaction_seq UNIQUE (transaction_seq)
)
 STRICT

;
CREATE TABLE containers (
	id INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	site_id INTEGER, 
	nameplate_units INTEGER, 
	nameplate_ths INTEGER, 
	nameplate_kw INTEGER, 
	created_at_s INTEGER NOT NULL, removed_at_s INTEGER, 
	CONSTRAINT pk_containers PRIMARY KEY (id), 
	CONSTRAINT fk_containers_site_id FOREIGN KEY(site_id) REFERENCES sites (id), 
	CONSTRAINT fk_containers_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id), 
	CONSTRAINT uq_containers_tenant_id_name UNIQUE (tenant_id, name)
)
 STRICT

;
INSERT INTO "containers" VALUES
(1,1,'c01',NULL,NULL,NULL,NULL,0,NULL),
(2,2,'c01',NULL,NULL,NULL,NULL,0,NULL),
(9,1,'c02',1,400,40000,1400,1788220800,NULL);
CREATE TABLE fee_bases (
	id INTEGER NOT NULL, 
	block_fees_sat INTEGER NOT NULL, 
	created_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_fee_bases PRIMARY KEY (id), 
	CONSTRAINT ck_fee_bases_block_fees_sat CHECK (block_fees_sat >= 0)
)
 STRICT

;
INSERT INTO "fee_bases" VALUES
(1,4000009,1788134400);
CREATE TABLE fee_basis_blocks (
	fee_basis_id INTEGER NOT NULL, 
	block_hash TEXT NOT NULL, 
	height INTEGER NOT NULL, 
	fees_sat INTEGER NOT NULL, 
	CONSTRAINT pk_fee_basis_blocks PRIMARY KEY (fee_basis_id, block_hash), 
	CONSTRAINT ck_fee_basis_blocks_fees_sat CHECK (fees_sat >= 0), 
	CONSTRAINT fk_fee_basis_blocks_fee_basis_id FOREIGN KEY(fee_basis_id) REFERENCES fee_bases (id)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "fee_basis_blocks" VALUES
(1,'0000000000000000000000000000000000000000000000000000000000000000',900000,4000000),
(1,'0000000000000000000000000000000000000000000000000000000000000001',900001,4000001),
(1,'0000000000000000000000000000000000000000000000000000000000000002',900002,4000002),
(1,'0000000000000000000000000000000000000000000000000000000000000003',900003,4000003),
(1,'0000000000000000000000000000000000000000000000000000000000000004',900004,4000004),
(1,'0000000000000000000000000000000000000000000000000000000000000005',900005,4000005),
(1,'0000000000000000000000000000000000000000000000000000000000000006',900006,4000006),
(1,'0000000000000000000000000000000000000000000000000000000000000007',900007,4000007),
(1,'0000000000000000000000000000000000000000000000000000000000000008',900008,4000008),
(1,'0000000000000000000000000000000000000000000000000000000000000009',900009,4000009),
(1,'000000000000000000000000000000000000000000000000000000000000000a',900010,4000010),
(1,'000000000000000000000000000000000000000000000000000000000000000b',900011,4000011),
(1,'000000000000000000000000000000000000000000000000000000000000000c',900012,4000012),
(1,'000000000000000000000000000000000000000000000000000000000000000d',900013,4000013),
(1,'000000000000000000000000000000000000000000000000000000000000000e',900014,4000014),
(1,'000000000000000000000000000000000000000000000000000000000000000f',900015,4000015),
(1,'0000000000000000000000000000000000000000000000000000000000000010',900016,4000016),
(1,'0000000000000000000000000000000000000000000000000000000000000011',900017,4000017),
(1,'0000000000000000000000000000000000000000000000000000000000000012',900018,4000018),
(1,'0000000000000000000000000000000000000000000000000000000000000013',900019,4000019);
CREATE TABLE journal_batches (
	seq INTEGER NOT NULL, 
	minute INTEGER NOT NULL, 
	tallies BLOB NOT NULL, 
	upstream BLOB, names BLOB, 
	CONSTRAINT pk_journal_batches PRIMARY KEY (seq), 
	CONSTRAINT ck_journal_batches_tallies CHECK (length(tallies) + coalesce(length(upstream), 0) > 0)
)
 STRICT

;
INSERT INTO "journal_batches" VALUES
(1,29805900,X'EE030000010000001000000003000000',NULL,X'9187A26964CD03EEA974656E616E745F696401AC636F6E7461696E65725F696409A4756E6974A27531A56167656E74A763676D696E6572AF646966666963756C74795F6C6F6732C0A772656D6F766564C2'),
(2,29805900,X'EF030000010000001000000005000000',NULL,X'9187A26964CD03EFA974656E616E745F696402AC636F6E7461696E65725F696402A4756E6974A36E6577A56167656E74A763676D696E6572AF646966666963756C74795F6C6F6732C0A772656D6F766564C2');
CREATE TABLE journal_writers (
	writer TEXT NOT NULL, 
	batch INTEGER NOT NULL, 
	CONSTRAINT pk_journal_writers PRIMARY KEY (writer), 
	CONSTRAINT ck_journal_writers_batch CHECK (batch >= 1)
)
 STRICT

;
INSERT INTO "journal_writers" VALUES
('pool',1);
CREATE TABLE ledger_accounts (
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	tenant_id INTEGER, 
	CONSTRAINT pk_ledger_accounts PRIMARY KEY (name), 
	CONSTRAINT fk_ledger_accounts_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id), 
	CONSTRAINT uq_ledger_accounts_tenant_id_kind UNIQUE (tenant_id, kind)
)
 STRICT

;
INSERT INTO "ledger_accounts" VALUES
('pool.pps_expense','pps_expense',NULL),
('pool.fee_income','fee_income',NULL),
('pool.block_income_pending','block_income_pending',NULL),
('pool.block_income_matured','block_income_matured',NULL),
('pool.node_fees','node_fees',NULL),
('pool.rounding','rounding',NULL),
('pool.coins','coins',NULL),
('pool.overpaid','overpaid',NULL),
('tenant.1.payable','payable',1),
('tenant.1.in_payout','in_payout',1),
('tenant.2.payable','payable',2),
('tenant.2.in_payout','in_payout',2);
CREATE TABLE ledger_transactions (
	seq INTEGER NOT NULL, 
	idempotency_key TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	memo TEXT NOT NULL, 
	reverses_seq INTEGER, 
	booked_at_s INTEGER NOT NULL, 
	payload_hash TEXT NOT NULL, 
	prev_hash TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	CONSTRAINT pk_ledger_transactions PRIMARY KEY (seq), 
	CONSTRAINT ck_ledger_transactions_reversal CHECK ((kind = 'reversal') = (reverses_seq IS NOT NULL)), 
	CONSTRAINT ck_ledger_transactions_seq CHECK (seq >= 1), 
	CONSTRAINT fk_ledger_transactions_reverses_seq FOREIGN KEY(reverses_seq) REFERENCES ledger_transactions (seq), 
	CONSTRAINT uq_ledger_transactions_hash UNIQUE (hash), 
	CONSTRAINT uq_ledger_transactions_idempotency_key UNIQUE (idempotency_key), 
	CONSTRAINT uq_ledger_transactions_prev_hash UNIQUE (prev_hash), 
	CONSTRAINT uq_ledger_transactions_reverses_seq UNIQUE (reverses_seq)
)
 STRICT

;
INSERT INTO "ledger_transactions" VALUES
(1,'block:abababababababababababababababababababababababababababababababab:1','block','block abababababababababababababababababababababababababababababababab pending',NULL,1788220860,'b70bfc9d331587dc204eabf881d88ff19dd385fce2b64c89a5db76f33fca350e','0000000000000000000000000000000000000000000000000000000000000000','c5af89f1f1c3e4548568aa4d84307611597c9415262ad2e6f592c7a30bce040d'),
(2,'settlement:1:496728:0','settlement','rate 1, 2026-09-01T00Z, part 0',NULL,1788264090,'5ed7c668bde8ac4a6b3f0f078eb66a1f670a4807bf782892c0badc2d88b1b9db','c5af89f1f1c3e4548568aa4d84307611597c9415262ad2e6f592c7a30bce040d','9fc62da4eac066edd7f09ddbf52980a0d1c8a6ddde3ba7adb8cea9277d2df9ed'),
(3,'settlement:1:496731:0','settlement','rate 1, 2026-09-01T03Z, part 0',NULL,1788264090,'e31e2aea5c9b1b743649bb37beaf576641ce38a9af662034db01509ff6dc261d','9fc62da4eac066edd7f09ddbf52980a0d1c8a6ddde3ba7adb8cea9277d2df9ed','d77aa923adaec4a302f4da7625e3b00b7f4aea59b6cad08293f304696569215e'),
(4,'settlement:1:496734:0','settlement','rate 1, 2026-09-01T06Z, part 0',NULL,1788264090,'ebdd382dacf040f09364a4f94ec933fd2e6215986eb3c27eaa0c92be876b1b94','d77aa923adaec4a302f4da7625e3b00b7f4aea59b6cad08293f304696569215e','3f98e7cdffd1ef56433edd5a08a16fd102c2d025c976486b4f939453996baf5e'),
(5,'settlement:1:496737:0','settlement','rate 1, 2026-09-01T09Z, part 0',NULL,1788264090,'71b1cad492899ca1765bdc01502861cfcaeb1370b4f0fdee0feaa76d7af8dd7e','3f98e7cdffd1ef56433edd5a08a16fd102c2d025c976486b4f939453996baf5e','b40890026f896a9036ceecb3efa50658a88387d813d67d49a5be05de06c6ba84'),
(6,'block:abababababababababababababababababababababababababababababababab:2','block','block abababababababababababababababababababababababababababababababab matured',NULL,1788307200,'1141895ca5febf663fbc091666f62f52b495f0d8c5d645a715a163c54aec1b9a','b40890026f896a9036ceecb3efa50658a88387d813d67d49a5be05de06c6ba84','3948aadc55a3196a361c52be766822817c0e291d45016a79caaec1804a967bb0'),
(7,'settlement:1:496740:0','settlement','rate 1, 2026-09-01T12Z, part 0',NULL,1788307290,'6ccad7a2d470cedab6689c8b03b558906822084a9a8f4fcb724cb297f5a8b1ec','3948aadc55a3196a361c52be766822817c0e291d45016a79caaec1804a967bb0','f38aea676215aca7b545528ac06607aa3e8a12bb350343a3af56394f6302b72f'),
(8,'settlement:1:496743:0','settlement','rate 1, 2026-09-01T15Z, part 0',NULL,1788307290,'23ed8846977388afc9212b5d6fbbc7aa85c9eb6752d1e83cb9bce24f1f82cb70','f38aea676215aca7b545528ac06607aa3e8a12bb350343a3af56394f6302b72f','9926d6c2d22d180d2a9526cb636f4c0803ec2c5e9e66c787768cbfbc67ec2f67'),
(9,'settlement:1:496746:0','settlement','rate 1, 2026-09-01T18Z, part 0',NULL,1788307290,'d5a53db854d792fcdcea8363b3611dae7edf0e7dbc952423a874fb25b588d80a','9926d6c2d22d180d2a9526cb636f4c0803ec2c5e9e66c787768cbfbc67ec2f67','fd1cb9a2011db9d366d9afdcba3be7a5143a542efb92563cca8dd79112b61c12'),
(10,'settlement:1:496749:0','settlement','rate 1, 2026-09-01T21Z, part 0',NULL,1788307290,'854315d178da1b5ff8536d3a300e132993a342706e27942ead6114b86a236dd3','fd1cb9a2011db9d366d9afdcba3be7a5143a542efb92563cca8dd79112b61c12','e39614f5d1abc46ad6ea9b9277d5c76d7bd68578d555acd14f00bcafec507eb7'),
(11,'payout:1:0','payout','payout batch 1 draft',NULL,1788339600,'a797b669f60681453d67cdf55ec0e547b8f45f33eeb6968d714d82e68eed79c5','e39614f5d1abc46ad6ea9b9277d5c76d7bd68578d555acd14f00bcafec507eb7','bec00dab128967796cc032e2a97ea64f4e481b5a44f31964bf2b6e77df84b66d'),
(12,'payout:2:0','payout','payout batch 2 draft',NULL,1788346800,'065247764e9d9aa5f4c9b7a78dc854834d729045a2c9323512b0cda744202e0c','bec00dab128967796cc032e2a97ea64f4e481b5a44f31964bf2b6e77df84b66d','1058da73ad84f312e7d20ad1b3c02494d786cc4d1dff0076becb703046a8d23b'),
(13,'settlement:1:496752:0','settlement','rate 1, 2026-09-02T00Z, part 0',NULL,1788350490,'236d488d1af3804342f5f1dd26197fda7ccf55c1fcb07033bb87bac4523764d3','1058da73ad84f312e7d20ad1b3c02494d786cc4d1dff0076becb703046a8d23b','b3980b3d4e1ec1c266246ca554f5ba30abf48d5f4079839296b364f7e8cf12af'),
(14,'settlement:1:496755:0','settlement','rate 1, 2026-09-02T03Z, part 0',NULL,1788350490,'b8146db93066b3b6694330868efb26689bb8c89adfa1ee856dcebea21e85a7e0','b3980b3d4e1ec1c266246ca554f5ba30abf48d5f4079839296b364f7e8cf12af','55811ffeef9b37614f5e1f25022e8c14e794f3a725b388f05484c80e8bf2102b'),
(15,'settlement:1:496758:0','settlement','rate 1, 2026-09-02T06Z, part 0',NULL,1788350490,'a3016a0d322c54886d8054afab4c6e133c56f451eed9e22022dfccc8d8f2b0d4','55811ffeef9b37614f5e1f25022e8c14e794f3a725b388f05484c80e8bf2102b','45f124407b5a54c845af9db1f8bec14f39dc61b9408b02de948025ca8eb68336'),
(16,'settlement:1:496761:0','settlement','rate 1, 2026-09-02T09Z, part 0',NULL,1788350490,'e5e53200d9c910bad13e89f22e0f3e1afd4fad2eb2bea15d764c7540d18d1e65','45f124407b5a54c845af9db1f8bec14f39dc61b9408b02de948025ca8eb68336','b7c17a522f78d3eb724719d0090c1b74f9ac4d3174e3f635c40318fd4461f17c');
CREATE TABLE ledger_transfers (
	transaction_seq INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	from_account TEXT NOT NULL, 
	to_account TEXT NOT NULL, 
	amount_sat INTEGER NOT NULL, 
	CONSTRAINT pk_ledger_transfers PRIMARY KEY (transaction_seq, position), 
	CONSTRAINT ck_ledger_transfers_amount_sat CHECK (amount_sat > 0), 
	CONSTRAINT ck_ledger_transfers_accounts CHECK (from_account <> to_account), 
	CONSTRAINT fk_ledger_transfers_from_account FOREIGN KEY(from_account) REFERENCES ledger_accounts (name), 
	CONSTRAINT fk_ledger_transfers_to_account FOREIGN KEY(to_account) REFERENCES ledger_accounts (name), 
	CONSTRAINT fk_ledger_transfers_transaction_seq FOREIGN KEY(transaction_seq) REFERENCES ledger_transactions (seq)
)
 STRICT

;
INSERT INTO "ledger_transfers" VALUES
(1,0,'pool.coins','pool.block_income_pending',316000000),
(2,0,'pool.pps_expense','tenant.1.payable',38069),
(2,1,'pool.pps_expense','pool.fee_income',976),
(3,0,'pool.pps_expense','tenant.1.payable',38082),
(3,1,'pool.pps_expense','pool.fee_income',976),
(4,0,'pool.pps_expense','tenant.1.payable',38095),
(4,1,'pool.pps_expense','pool.fee_income',977),
(5,0,'pool.pps_expense','tenant.1.payable',38107),
(5,1,'pool.pps_expense','pool.fee_income',977),
(6,0,'pool.block_income_pending','pool.block_income_matured',316000000),
(7,0,'pool.pps_expense','tenant.1.payable',38120),
(7,1,'pool.pps_expense','pool.fee_income',977),
(8,0,'pool.pps_expense','tenant.1.payable',38133),
(8,1,'pool.pps_expense','pool.fee_income',978),
(9,0,'pool.pps_expense','tenant.1.payable',38146),
(9,1,'pool.pps_expense','pool.fee_income',978),
(10,0,'pool.pps_expense','tenant.1.payable',38158),
(10,1,'pool.pps_expense','pool.fee_income',979),
(11,0,'tenant.1.payable','tenant.1.in_payout',100000),
(12,0,'tenant.1.payable','tenant.1.in_payout',150000),
(13,0,'pool.pps_expense','tenant.1.payable',38171),
(13,1,'pool.pps_expense','pool.fee_income',978),
(14,0,'pool.pps_expense','tenant.1.payable',38184),
(14,1,'pool.pps_expense','pool.fee_income',980),
(15,0,'pool.pps_expense','tenant.1.payable',38196),
(15,1,'pool.pps_expense','pool.fee_income',979),
(16,0,'pool.pps_expense','tenant.1.payable',38209),
(16,1,'pool.pps_expense','pool.fee_income',980);
CREATE TABLE order_hours (
	order_id INTEGER NOT NULL, 
	hour INTEGER NOT NULL, 
	minutes INTEGER NOT NULL, 
	minutes_short INTEGER NOT NULL, 
	moves INTEGER NOT NULL, 
	CONSTRAINT pk_order_hours PRIMARY KEY (order_id, hour), 
	CONSTRAINT ck_order_hours_minutes_short CHECK (minutes_short BETWEEN 0 AND minutes), 
	CONSTRAINT ck_order_hours_moves CHECK (moves >= 0), 
	CONSTRAINT fk_order_hours_order_id FOREIGN KEY(order_id) REFERENCES orders (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE order_suppliers (
	order_id INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	container_id INTEGER NOT NULL, 
	CONSTRAINT pk_order_suppliers PRIMARY KEY (order_id, tenant_id, container_id), 
	CONSTRAINT fk_order_suppliers_order_id FOREIGN KEY(order_id) REFERENCES orders (id), 
	CONSTRAINT fk_order_suppliers_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "order_suppliers" VALUES
(1,1,0),
(1,1,9);
CREATE TABLE orders (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	buyer TEXT NOT NULL, 
	upstream_id INTEGER NOT NULL, 
	hashrate_ths INTEGER NOT NULL, 
	tolerance_bps INTEGER NOT NULL, 
	from_s INTEGER NOT NULL, 
	until_s INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	sat_per_ph_day INTEGER NOT NULL, 
	created_at_s INTEGER NOT NULL, 
	created_by TEXT NOT NULL, 
	ended_at_s INTEGER, 
	ended_by TEXT, 
	CONSTRAINT pk_orders PRIMARY KEY (id), 
	CONSTRAINT ck_orders_ended_by CHECK ((ended_at_s IS NULL) = (ended_by IS NULL)), 
	CONSTRAINT ck_orders_hashrate_ths CHECK (hashrate_ths > 0), 
	CONSTRAINT ck_orders_name CHECK (length(name) BETWEEN 1 AND 63), 
	CONSTRAINT ck_orders_priority CHECK (priority BETWEEN 1 AND 100), 
	CONSTRAINT ck_orders_sat_per_ph_day CHECK (sat_per_ph_day >= 0), 
	CONSTRAINT ck_orders_tolerance_bps CHECK (tolerance_bps BETWEEN 1 AND 10000), 
	CONSTRAINT ck_orders_until_s CHECK (until_s > from_s), 
	CONSTRAINT fk_orders_upstream_id FOREIGN KEY(upstream_id) REFERENCES upstreams (id), 
	CONSTRAINT uq_orders_name UNIQUE (name)
)
 STRICT

;
INSERT INTO "orders" VALUES
(1,'blue','Blue Ltd',1,1000,200,1788220800,1914364800,50,4500,1788220800,'olga',NULL,NULL);
CREATE TABLE payout_approvals (
	id INTEGER NOT NULL, 
	batch_id INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	fee_cap_sat INTEGER NOT NULL, 
	approved_by TEXT NOT NULL, 
	approved_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_payout_approvals PRIMARY KEY (id), 
	CONSTRAINT ck_payout_approvals_fee_cap_sat CHECK (fee_cap_sat > 0), 
	CONSTRAINT fk_payout_approvals_batch_id FOREIGN KEY(batch_id) REFERENCES payout_batches (id)
)
 STRICT

;
INSERT INTO "payout_approvals" VALUES
(1,1,'56c57423b57ca0c60a416f8ad1a8c0b2eb13dce1c6a1ee0a322137b74169fdff',10000,'dmitri',1788339660),
(2,2,'42518a628fd58f800b63ae9a953c893f87d238385a05879ada9462c928417ebb',10000,'dmitri',1788346860);
CREATE TABLE payout_attempts (
	batch_id INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	txid TEXT NOT NULL, 
	fee_sat INTEGER NOT NULL, 
	change_script TEXT, 
	change_sat INTEGER, 
	made_at_height INTEGER NOT NULL, 
	psbt BLOB, 
	signed_tx BLOB, 
	quarantine_reason TEXT, 
	block_hash TEXT, 
	block_height INTEGER, 
	created_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_payout_attempts PRIMARY KEY (batch_id, attempt), 
	CONSTRAINT ck_payout_attempts_fee_sat CHECK (fee_sat >= 0 AND (change_sat IS NULL OR change_sat > 0)), 
	CONSTRAINT ck_payout_attempts_change CHECK ((change_sat IS NULL) = (change_script IS NULL)), 
	CONSTRAINT ck_payout_attempts_change_sat CHECK (change_sat IS NOT NULL OR psbt IS NULL), 
	CONSTRAINT ck_payout_attempts_block_hash CHECK ((state IN ('confirmed', 'final')) = (block_hash IS NOT NULL AND block_height IS NOT NULL)), 
	CONSTRAINT ck_payout_attempts_quarantine_reason CHECK ((state = 'quarantined') = (quarantine_reason IS NOT NULL)), 
	CONSTRAINT ck_payout_attempts_signed_tx CHECK (signed_tx IS NOT NULL OR (psbt IS NOT NULL AND state IN ('psbt', 'given', 'quarantined', 'failed'))), 
	CONSTRAINT ck_payout_attempts_state CHECK (state IN ('psbt', 'given', 'quarantined', 'signed', 'broadcast', 'replaced', 'confirmed', 'final', 'failed')), 
	CONSTRAINT fk_payout_attempts_batch_id FOREIGN KEY(batch_id) REFERENCES payout_batches (id), 
	CONSTRAINT uq_payout_attempts_txid UNIQUE (txid)
)
 STRICT

;
INSERT INTO "payout_attempts" VALUES
(1,1,'broadcast','6df3dea00c538ee5b369370b7022d6e453d5d8ec9a3fc720775d8070f244e345',1000,'00142222222222222222222222222222222222222222',50000,1,NULL,X'0200000000010101000000000000000000000000000000000000000000000000000000000000000000000000FDFFFFFF02A086010000000000160014111111111111111111111111111111111111111150C30000000000001600142222222222222222222222222222222222222222024700000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000002100000000000000000000000000000000000000000000000000000000000000000000000000',NULL,NULL,NULL,1788343200);
CREATE TABLE payout_batches (
	id INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	created_by TEXT NOT NULL, 
	created_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_payout_batches PRIMARY KEY (id), 
	CONSTRAINT ck_payout_batches_state CHECK (state IN ('draft', 'approved', 'psbt', 'signed', 'broadcast', 'confirmed', 'final', 'failed'))
)
 STRICT

;
INSERT INTO "payout_batches" VALUES
(1,'broadcast','56c57423b57ca0c60a416f8ad1a8c0b2eb13dce1c6a1ee0a322137b74169fdff','olga',1788339600),
(2,'approved','42518a628fd58f800b63ae9a953c893f87d238385a05879ada9462c928417ebb','olga',1788346800);
CREATE TABLE payout_events (
	batch_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	attempt INTEGER, 
	done_by TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	at_s INTEGER NOT NULL, 
	transaction_seq INTEGER, 
	CONSTRAINT pk_payout_events PRIMARY KEY (batch_id, position), 
	CONSTRAINT fk_payout_events_batch_id FOREIGN KEY(batch_id) REFERENCES payout_batches (id), 
	CONSTRAINT fk_payout_events_transaction_seq FOREIGN KEY(transaction_seq) REFERENCES ledger_transactions (seq), 
	CONSTRAINT uq_payout_events_transaction_seq UNIQUE (transaction_seq)
)
 STRICT

;
INSERT INTO "payout_events" VALUES
(1,0,'draft',NULL,'olga','1 payees, 100000 sat, digest 56c57423b57ca0c60a416f8ad1a8c0b2eb13dce1c6a1ee0a322137b74169fdff',1788339600,11),
(1,1,'approved',NULL,'dmitri','approved with a fee cap of 10000 sat',1788339660,NULL),
(1,2,'broadcast',1,'olga','found on the chain: 6df3dea00c538ee5b369370b7022d6e453d5d8ec9a3fc720775d8070f244e345',1788343200,NULL),
(2,0,'draft',NULL,'olga','1 payees, 150000 sat, digest 42518a628fd58f800b63ae9a953c893f87d238385a05879ada9462c928417ebb',1788346800,12),
(2,1,'approved',NULL,'dmitri','approved with a fee cap of 10000 sat',1788346860,NULL);
CREATE TABLE payout_inputs (
	batch_id INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	txid TEXT NOT NULL, 
	vout INTEGER NOT NULL, 
	amount_sat INTEGER NOT NULL, 
	script TEXT NOT NULL, 
	CONSTRAINT pk_payout_inputs PRIMARY KEY (batch_id, attempt, position), 
	CONSTRAINT ck_payout_inputs_amount_sat CHECK (amount_sat > 0), 
	CONSTRAINT fk_payout_inputs_batch_id_attempt FOREIGN KEY(batch_id, attempt) REFERENCES payout_attempts (batch_id, attempt)
)
 STRICT

;
INSERT INTO "payout_inputs" VALUES
(1,1,0,'0000000000000000000000000000000000000000000000000000000000000001',0,151000,'00142222222222222222222222222222222222222222');
CREATE TABLE payout_items (
	batch_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	address TEXT NOT NULL, 
	script TEXT NOT NULL, 
	amount_sat INTEGER NOT NULL, 
	CONSTRAINT pk_payout_items PRIMARY KEY (batch_id, position), 
	CONSTRAINT ck_payout_items_amount_sat CHECK (amount_sat > 0), 
	CONSTRAINT fk_payout_items_batch_id FOREIGN KEY(batch_id) REFERENCES payout_batches (id), 
	CONSTRAINT fk_payout_items_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id)
)
 STRICT

;
INSERT INTO "payout_items" VALUES
(1,0,1,'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq','00141111111111111111111111111111111111111111',100000),
(2,0,1,'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq','00141111111111111111111111111111111111111111',150000);
CREATE TABLE payout_strangers (
	txid TEXT NOT NULL, 
	anchor TEXT NOT NULL, 
	accepted_by TEXT NOT NULL, 
	accepted_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_payout_strangers PRIMARY KEY (txid, anchor)
)
 STRICT

;
CREATE TABLE proposals (
	id INTEGER NOT NULL, 
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	why TEXT NOT NULL, 
	proposed_by TEXT NOT NULL, 
	proposed_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_proposals PRIMARY KEY (id), 
	CONSTRAINT ck_proposals_kind CHECK (kind IN ('reversal', 'no_payout')), 
	CONSTRAINT ck_proposals_why CHECK (length(why) > 0)
)
 STRICT

;
CREATE TABLE rate_epoch_tenants (
	epoch INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	rate_id INTEGER NOT NULL, upstream_risk TEXT DEFAULT 'tenant' NOT NULL CONSTRAINT ck_rate_epoch_tenants_upstream_risk CHECK (upstream_risk IN ('tenant', 'pool')), 
	CONSTRAINT pk_rate_epoch_tenants PRIMARY KEY (epoch, tenant_id), 
	CONSTRAINT fk_rate_epoch_tenants_epoch FOREIGN KEY(epoch) REFERENCES rate_epochs (epoch), 
	CONSTRAINT fk_rate_epoch_tenants_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id), 
	CONSTRAINT fk_rate_epoch_tenants_rate_id FOREIGN KEY(rate_id) REFERENCES rates (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE rate_epochs (
	epoch INTEGER NOT NULL, 
	nbits INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	subsidy_sat INTEGER NOT NULL, 
	fee_basis_id INTEGER, 
	created_at_s INTEGER NOT NULL, upstream_id INTEGER CONSTRAINT fk_rate_epochs_upstream_id REFERENCES upstreams (id), order_id INTEGER CONSTRAINT fk_rate_epochs_order_id REFERENCES orders (id), solo INTEGER DEFAULT 0 NOT NULL CONSTRAINT ck_rate_epochs_solo CHECK (solo IN (0, 1)), 
	CONSTRAINT pk_rate_epochs PRIMARY KEY (epoch), 
	CONSTRAINT fk_rate_epochs_fee_basis_id FOREIGN KEY(fee_basis_id) REFERENCES fee_bases (id), 
	CONSTRAINT ck_rate_epochs_epoch CHECK (epoch BETWEEN 1 AND 4294967295)
)
 STRICT

;
INSERT INTO "rate_epochs" VALUES
(1,386089497,1000100,312500000,NULL,1788354000,NULL,NULL,0);
CREATE TABLE rate_hours (
	rate_id INTEGER NOT NULL, 
	hour INTEGER NOT NULL, 
	difficulty_log2 INTEGER NOT NULL, 
	shares INTEGER NOT NULL, 
	settled INTEGER NOT NULL, undelivered INTEGER DEFAULT 0 NOT NULL CONSTRAINT ck_rate_hours_undelivered CHECK (undelivered BETWEEN 0 AND shares), 
	CONSTRAINT pk_rate_hours PRIMARY KEY (rate_id, hour, difficulty_log2), 
	CONSTRAINT ck_rate_hours_difficulty_log2 CHECK (difficulty_log2 BETWEEN -32 AND 63), 
	CONSTRAINT ck_rate_hours_settled CHECK (settled BETWEEN 0 AND shares), 
	CONSTRAINT fk_rate_hours_rate_id FOREIGN KEY(rate_id) REFERENCES rates (id)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "rate_hours" VALUES
(1,496728,18,63000,63000,0),
(1,496731,18,63021,63021,0),
(1,496734,18,63042,63042,0),
(1,496737,18,63063,63063,0),
(1,496740,18,63084,63084,0),
(1,496743,18,63105,63105,0),
(1,496746,18,63126,63126,0),
(1,496749,18,63147,63147,0),
(1,496752,18,63168,63168,0),
(1,496755,18,63189,63189,0),
(1,496758,18,63210,63210,0),
(1,496761,18,63231,63231,0);
CREATE TABLE rates (
	id INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	scheme TEXT NOT NULL, 
	fee_bps INTEGER NOT NULL, 
	nbits INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	subsidy_sat INTEGER NOT NULL, 
	block_fees_sat INTEGER NOT NULL, 
	fee_basis_id INTEGER, 
	created_at_s INTEGER NOT NULL, upstream_id INTEGER CONSTRAINT fk_rates_upstream_id REFERENCES upstreams (id), order_id INTEGER CONSTRAINT fk_rates_order_id REFERENCES orders (id), sat_per_ph_day INTEGER CONSTRAINT ck_rates_sat_per_ph_day CHECK (sat_per_ph_day IS NULL OR (sat_per_ph_day >= 0 AND order_id IS NOT NULL)), 
	CONSTRAINT pk_rates PRIMARY KEY (id), 
	CONSTRAINT ck_rates_scheme CHECK (scheme IN ('pps', 'fpps', 'solo', 'proxy')), 
	CONSTRAINT ck_rates_fee_basis CHECK (fee_basis_id IS NOT NULL OR block_fees_sat = 0), 
	CONSTRAINT ck_rates_fee_bps CHECK (fee_bps BETWEEN 0 AND 10000), 
	CONSTRAINT ck_rates_height CHECK (height >= 0), 
	CONSTRAINT ck_rates_nbits CHECK (nbits BETWEEN 1 AND 4294967295), 
	CONSTRAINT ck_rates_reward CHECK (subsidy_sat >= 0 AND block_fees_sat >= 0), 
	CONSTRAINT fk_rates_fee_basis_id FOREIGN KEY(fee_basis_id) REFERENCES fee_bases (id), 
	CONSTRAINT fk_rates_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id), 
	CONSTRAINT uq_rates_id_tenant_id UNIQUE (id, tenant_id)
)
 STRICT

;
INSERT INTO "rates" VALUES
(1,1,'fpps',250,386013762,1000000,312500000,4000009,1,1788220800,NULL,NULL,NULL);
CREATE TABLE settled_shares (
	settlement_seq INTEGER NOT NULL, 
	difficulty_log2 INTEGER NOT NULL, 
	shares INTEGER NOT NULL, 
	CONSTRAINT pk_settled_shares PRIMARY KEY (settlement_seq, difficulty_log2), 
	CONSTRAINT ck_settled_shares_shares CHECK (shares > 0), 
	CONSTRAINT fk_settled_shares_settlement_seq FOREIGN KEY(settlement_seq) REFERENCES settlements (seq)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "settled_shares" VALUES
(1,18,63000),
(2,18,63021),
(3,18,63042),
(4,18,63063),
(5,18,63084),
(6,18,63105),
(7,18,63126),
(8,18,63147),
(9,18,63168),
(10,18,63189),
(11,18,63210),
(12,18,63231);
CREATE TABLE settlements (
	seq INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	rate_id INTEGER NOT NULL, 
	hour INTEGER NOT NULL, 
	part INTEGER NOT NULL, 
	credit_sat INTEGER NOT NULL, 
	credit_psat INTEGER NOT NULL, 
	carry_in_psat INTEGER NOT NULL, 
	posted_sat INTEGER NOT NULL, 
	carry_out_psat INTEGER NOT NULL, 
	fee_sat INTEGER NOT NULL, 
	fee_psat INTEGER NOT NULL, 
	fee_carry_in_psat INTEGER NOT NULL, 
	fee_posted_sat INTEGER NOT NULL, 
	fee_carry_out_psat INTEGER NOT NULL, 
	transaction_seq INTEGER, 
	settled_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_settlements PRIMARY KEY (seq), 
	CONSTRAINT ck_settlements_transaction_seq CHECK ((transaction_seq IS NULL) = (posted_sat + fee_posted_sat = 0)), 
	CONSTRAINT ck_settlements_carry_in_psat CHECK (carry_in_psat BETWEEN 0 AND 999999999999), 
	CONSTRAINT ck_settlements_carry_out_psat CHECK (carry_out_psat BETWEEN 0 AND 999999999999), 
	CONSTRAINT ck_settlements_credit_psat CHECK (credit_psat BETWEEN 0 AND 999999999999), 
	CONSTRAINT ck_settlements_credit_sat CHECK (credit_sat >= 0 AND posted_sat >= 0), 
	CONSTRAINT ck_settlements_fee_carry_in_psat CHECK (fee_carry_in_psat BETWEEN 0 AND 999999999999), 
	CONSTRAINT ck_settlements_fee_carry_out_psat CHECK (fee_carry_out_psat BETWEEN 0 AND 999999999999), 
	CONSTRAINT ck_settlements_fee_psat CHECK (fee_psat BETWEEN 0 AND 999999999999), 
	CONSTRAINT ck_settlements_fee_sat CHECK (fee_sat >= 0 AND fee_posted_sat >= 0), 
	CONSTRAINT ck_settlements_part CHECK (part >= 0), 
	CONSTRAINT fk_settlements_rate_id_tenant_id FOREIGN KEY(rate_id, tenant_id) REFERENCES rates (id, tenant_id), 
	CONSTRAINT fk_settlements_transaction_seq FOREIGN KEY(transaction_seq) REFERENCES ledger_transactions (seq), 
	CONSTRAINT uq_settlements_rate_id_hour_part UNIQUE (rate_id, hour, part), 
	CONSTRAINT uq_settlements_transaction_seq UNIQUE (transaction_seq)
)
 STRICT

;
INSERT INTO "settlements" VALUES
(1,1,1,496728,0,38069,399427447306,0,38069,399427447306,976,138446857623,0,976,138446857623,2,1788264090),
(2,1,1,496731,0,38082,89227256455,399427447306,38082,488654703761,976,463826339909,138446857623,976,602273197532,3,1788264090),
(3,1,1,496734,0,38094,779027065604,488654703761,38095,267681769365,976,789205822194,602273197532,977,391479019726,4,1788264090),
(4,1,1,496737,0,38107,468826874753,267681769365,38107,736508644118,977,114585304480,391479019726,977,506064324206,5,1788264090),
(5,1,1,496740,0,38120,158626683902,736508644118,38120,895135328020,977,439964786766,506064324206,977,946029110972,7,1788307290),
(6,1,1,496743,0,38132,848426493051,895135328020,38133,743561821071,977,765344269052,946029110972,978,711373380024,8,1788307290),
(7,1,1,496746,0,38145,538226302201,743561821071,38146,281788123272,978,90723751338,711373380024,978,802097131362,9,1788307290),
(8,1,1,496749,0,38158,228026111350,281788123272,38158,509814234622,978,416103233624,802097131362,979,218200364986,10,1788307290),
(9,1,1,496752,0,38170,917825920499,509814234622,38171,427640155121,978,741482715910,218200364986,978,959683080896,13,1788350490),
(10,1,1,496755,0,38183,607625729648,427640155121,38184,35265884769,979,66862198196,959683080896,980,26545279092,14,1788350490),
(11,1,1,496758,0,38196,297425538797,35265884769,38196,332691423566,979,392241680481,26545279092,979,418786959573,15,1788350490),
(12,1,1,496761,0,38208,987225347946,332691423566,38209,319916771512,979,717621162767,418786959573,980,136408122340,16,1788350490);
CREATE TABLE sibling_blocks (
	parent_hash TEXT NOT NULL, 
	worker_id INTEGER NOT NULL, 
	pays_pool INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	found_at_s INTEGER NOT NULL, 
	blocks INTEGER NOT NULL, 
	CONSTRAINT pk_sibling_blocks PRIMARY KEY (parent_hash, worker_id, pays_pool), 
	CONSTRAINT ck_sibling_blocks_pays_pool CHECK (pays_pool IN (0, 1)), 
	CONSTRAINT ck_sibling_blocks_blocks CHECK (height >= 0 AND blocks > 0)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE sites (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	created_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_sites PRIMARY KEY (id), 
	CONSTRAINT uq_sites_name UNIQUE (name)
)
 STRICT

;
INSERT INTO "sites" VALUES
(1,'Bratsk',1788220800);
CREATE TABLE solo_blocks (
	block_hash TEXT NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	address TEXT NOT NULL, 
	amount_sat INTEGER NOT NULL, 
	CONSTRAINT pk_solo_blocks PRIMARY KEY (block_hash), 
	CONSTRAINT ck_solo_blocks_amount_sat CHECK (amount_sat >= 0), 
	CONSTRAINT fk_solo_blocks_block_hash FOREIGN KEY(block_hash) REFERENCES blocks (hash), 
	CONSTRAINT fk_solo_blocks_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE tally_days (
	worker_id INTEGER NOT NULL, 
	day INTEGER NOT NULL, 
	rate_id INTEGER NOT NULL, 
	difficulty_log2 INTEGER NOT NULL, 
	verdict INTEGER NOT NULL, 
	shares INTEGER NOT NULL, 
	minutes INTEGER NOT NULL, 
	CONSTRAINT pk_tally_days PRIMARY KEY (worker_id, day, rate_id, difficulty_log2, verdict), 
	CONSTRAINT ck_tally_days_difficulty_log2 CHECK (difficulty_log2 BETWEEN -32 AND 63), 
	CONSTRAINT ck_tally_days_rate_id CHECK (rate_id > 0 OR (rate_id = 0 AND verdict > 0)), 
	CONSTRAINT ck_tally_days_shares CHECK (shares > 0), 
	CONSTRAINT ck_tally_days_verdict CHECK (verdict BETWEEN 0 AND 255), 
	CONSTRAINT fk_tally_days_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE tally_hours (
	worker_id INTEGER NOT NULL, 
	hour INTEGER NOT NULL, 
	rate_id INTEGER NOT NULL, 
	difficulty_log2 INTEGER NOT NULL, 
	verdict INTEGER NOT NULL, 
	shares INTEGER NOT NULL, 
	minutes INTEGER NOT NULL, 
	CONSTRAINT pk_tally_hours PRIMARY KEY (worker_id, hour, rate_id, difficulty_log2, verdict), 
	CONSTRAINT ck_tally_hours_difficulty_log2 CHECK (difficulty_log2 BETWEEN -32 AND 63), 
	CONSTRAINT ck_tally_hours_rate_id CHECK (rate_id > 0 OR (rate_id = 0 AND verdict > 0)), 
	CONSTRAINT ck_tally_hours_shares CHECK (shares > 0), 
	CONSTRAINT ck_tally_hours_verdict CHECK (verdict BETWEEN 0 AND 255), 
	CONSTRAINT fk_tally_hours_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE tally_minutes (
	minute INTEGER NOT NULL, 
	worker_id INTEGER NOT NULL, 
	rate_id INTEGER NOT NULL, 
	difficulty_log2 INTEGER NOT NULL, 
	verdict INTEGER NOT NULL, 
	shares INTEGER NOT NULL, 
	CONSTRAINT pk_tally_minutes PRIMARY KEY (minute, worker_id, rate_id, difficulty_log2, verdict), 
	CONSTRAINT ck_tally_minutes_difficulty_log2 CHECK (difficulty_log2 BETWEEN -32 AND 63), 
	CONSTRAINT ck_tally_minutes_rate_id CHECK (rate_id > 0 OR (rate_id = 0 AND verdict > 0)), 
	CONSTRAINT ck_tally_minutes_shares CHECK (shares > 0), 
	CONSTRAINT ck_tally_minutes_verdict CHECK (verdict BETWEEN 0 AND 255), 
	CONSTRAINT fk_tally_minutes_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "tally_minutes" VALUES
(29803685,100,1,18,0,9000),
(29803685,100,1,18,5,2),
(29803685,1000,1,18,0,9000),
(29803685,1000,1,18,5,2),
(29803685,1001,1,18,0,9000),
(29803685,1001,1,18,5,2),
(29803685,1002,1,18,0,9000),
(29803685,1002,1,18,5,2),
(29803685,1003,1,18,0,9000),
(29803685,1003,1,18,5,2),
(29803685,1004,1,18,0,9000),
(29803685,1004,1,18,5,2),
(29803685,1005,1,18,0,9000),
(29803685,1005,1,18,5,2),
(29803865,100,1,18,0,9003),
(29803865,100,1,18,5,2),
(29803865,1000,1,18,0,9003),
(29803865,1000,1,18,5,2),
(29803865,1001,1,18,0,9003),
(29803865,1001,1,18,5,2),
(29803865,1002,1,18,0,9003),
(29803865,1002,1,18,5,2),
(29803865,1003,1,18,0,9003),
(29803865,1003,1,18,5,2),
(29803865,1004,1,18,0,9003),
(29803865,1004,1,18,5,2),
(29803865,1005,1,18,0,9003),
(29803865,1005,1,18,5,2),
(29804045,100,1,18,0,9006),
(29804045,100,1,18,5,2),
(29804045,1000,1,18,0,9006),
(29804045,1000,1,18,5,2),
(29804045,1001,1,18,0,9006),
(29804045,1001,1,18,5,2),
(29804045,1002,1,18,0,9006),
(29804045,1002,1,18,5,2),
(29804045,1003,1,18,0,9006),
(29804045,1003,1,18,5,2),
(29804045,1004,1,18,0,9006),
(29804045,1004,1,18,5,2),
(29804045,1005,1,18,0,9006),
(29804045,1005,1,18,5,2),
(29804225,100,1,18,0,9009),
(29804225,100,1,18,5,2),
(29804225,1000,1,18,0,9009),
(29804225,1000,1,18,5,2),
(29804225,1001,1,18,0,9009),
(29804225,1001,1,18,5,2),
(29804225,1002,1,18,0,9009),
(29804225,1002,1,18,5,2),
(29804225,1003,1,18,0,9009),
(29804225,1003,1,18,5,2),
(29804225,1004,1,18,0,9009),
(29804225,1004,1,18,5,2),
(29804225,1005,1,18,0,9009),
(29804225,1005,1,18,5,2),
(29804405,100,1,18,0,9012),
(29804405,100,1,18,5,2),
(29804405,1000,1,18,0,9012),
(29804405,1000,1,18,5,2),
(29804405,1001,1,18,0,9012),
(29804405,1001,1,18,5,2),
(29804405,1002,1,18,0,9012),
(29804405,1002,1,18,5,2),
(29804405,1003,1,18,0,9012),
(29804405,1003,1,18,5,2),
(29804405,1004,1,18,0,9012),
(29804405,1004,1,18,5,2),
(29804405,1005,1,18,0,9012),
(29804405,1005,1,18,5,2),
(29804585,100,1,18,0,9015),
(29804585,100,1,18,5,2),
(29804585,1000,1,18,0,9015),
(29804585,1000,1,18,5,2),
(29804585,1001,1,18,0,9015),
(29804585,1001,1,18,5,2),
(29804585,1002,1,18,0,9015),
(29804585,1002,1,18,5,2),
(29804585,1003,1,18,0,9015),
(29804585,1003,1,18,5,2),
(29804585,1004,1,18,0,9015),
(29804585,1004,1,18,5,2),
(29804585,1005,1,18,0,9015),
(29804585,1005,1,18,5,2),
(29804765,100,1,18,0,9018),
(29804765,100,1,18,5,2),
(29804765,1000,1,18,0,9018),
(29804765,1000,1,18,5,2),
(29804765,1001,1,18,0,9018),
(29804765,1001,1,18,5,2),
(29804765,1002,1,18,0,9018),
(29804765,1002,1,18,5,2),
(29804765,1003,1,18,0,9018),
(29804765,1003,1,18,5,2),
(29804765,1004,1,18,0,9018),
(29804765,1004,1,18,5,2),
(29804765,1005,1,18,0,9018),
(29804765,1005,1,18,5,2),
(29804945,100,1,18,0,9021),
(29804945,100,1,18,5,2),
(29804945,1000,1,18,0,9021),
(29804945,1000,1,18,5,2),
(29804945,1001,1,18,0,9021),
(29804945,1001,1,18,5,2),
(29804945,1002,1,18,0,9021),
(29804945,1002,1,18,5,2),
(29804945,1003,1,18,0,9021),
(29804945,1003,1,18,5,2),
(29804945,1004,1,18,0,9021),
(29804945,1004,1,18,5,2),
(29804945,1005,1,18,0,9021),
(29804945,1005,1,18,5,2),
(29805125,100,1,18,0,9024),
(29805125,100,1,18,5,2),
(29805125,1000,1,18,0,9024),
(29805125,1000,1,18,5,2),
(29805125,1001,1,18,0,9024),
(29805125,1001,1,18,5,2),
(29805125,1002,1,18,0,9024),
(29805125,1002,1,18,5,2),
(29805125,1003,1,18,0,9024),
(29805125,1003,1,18,5,2),
(29805125,1004,1,18,0,9024),
(29805125,1004,1,18,5,2),
(29805125,1005,1,18,0,9024),
(29805125,1005,1,18,5,2),
(29805305,100,1,18,0,9027),
(29805305,100,1,18,5,2),
(29805305,1000,1,18,0,9027),
(29805305,1000,1,18,5,2),
(29805305,1001,1,18,0,9027),
(29805305,1001,1,18,5,2),
(29805305,1002,1,18,0,9027),
(29805305,1002,1,18,5,2),
(29805305,1003,1,18,0,9027),
(29805305,1003,1,18,5,2),
(29805305,1004,1,18,0,9027),
(29805305,1004,1,18,5,2),
(29805305,1005,1,18,0,9027),
(29805305,1005,1,18,5,2),
(29805485,100,1,18,0,9030),
(29805485,100,1,18,5,2),
(29805485,1000,1,18,0,9030),
(29805485,1000,1,18,5,2),
(29805485,1001,1,18,0,9030),
(29805485,1001,1,18,5,2),
(29805485,1002,1,18,0,9030),
(29805485,1002,1,18,5,2),
(29805485,1003,1,18,0,9030),
(29805485,1003,1,18,5,2),
(29805485,1004,1,18,0,9030),
(29805485,1004,1,18,5,2),
(29805485,1005,1,18,0,9030),
(29805485,1005,1,18,5,2),
(29805665,100,1,18,0,9033),
(29805665,100,1,18,5,2),
(29805665,1000,1,18,0,9033),
(29805665,1000,1,18,5,2),
(29805665,1001,1,18,0,9033),
(29805665,1001,1,18,5,2),
(29805665,1002,1,18,0,9033),
(29805665,1002,1,18,5,2),
(29805665,1003,1,18,0,9033),
(29805665,1003,1,18,5,2),
(29805665,1004,1,18,0,9033),
(29805665,1004,1,18,5,2),
(29805665,1005,1,18,0,9033),
(29805665,1005,1,18,5,2);
CREATE TABLE tenant_addresses (
	id INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	address TEXT NOT NULL, 
	changed_at_s INTEGER NOT NULL, 
	changed_by TEXT NOT NULL, 
	effective_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_tenant_addresses PRIMARY KEY (id), 
	CONSTRAINT ck_tenant_addresses_effective_at_s CHECK (effective_at_s >= changed_at_s), 
	CONSTRAINT fk_tenant_addresses_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id)
)
 STRICT

;
INSERT INTO "tenant_addresses" VALUES
(1,1,'bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq',1788134400,'olga',1788134400),
(2,1,'bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr',1788350400,'olga',1788609600);
CREATE TABLE tenant_terms (
	id INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	scheme TEXT NOT NULL, 
	fee_bps INTEGER NOT NULL, 
	payout_minimum_sat INTEGER NOT NULL, 
	changed_at_s INTEGER NOT NULL, 
	changed_by TEXT NOT NULL, upstream_id INTEGER CONSTRAINT fk_tenant_terms_upstream_id REFERENCES upstreams (id), order_credit TEXT DEFAULT 'pps' NOT NULL CONSTRAINT ck_tenant_terms_order_credit CHECK (order_credit IN ('pps', 'order')), upstream_risk TEXT DEFAULT 'tenant' NOT NULL CONSTRAINT ck_tenant_terms_upstream_risk CHECK (upstream_risk IN ('tenant', 'pool')), 
	CONSTRAINT pk_tenant_terms PRIMARY KEY (id), 
	CONSTRAINT ck_tenant_terms_scheme CHECK (scheme IN ('pps', 'fpps', 'solo', 'proxy')), 
	CONSTRAINT ck_tenant_terms_fee_bps CHECK (fee_bps BETWEEN 0 AND 10000), 
	CONSTRAINT ck_tenant_terms_payout_minimum_sat CHECK (payout_minimum_sat >= 0), 
	CONSTRAINT fk_tenant_terms_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id)
)
 STRICT

;
INSERT INTO "tenant_terms" VALUES
(1,1,'fpps',250,0,1788134400,'olga',NULL,'pps','tenant'),
(2,2,'fpps',200,0,1788134400,'olga',NULL,'pps','tenant'),
(3,1,'fpps',300,0,1788292800,'olga',NULL,'pps','tenant');
CREATE TABLE tenants (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	status TEXT NOT NULL, 
	created_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_tenants PRIMARY KEY (id), 
	CONSTRAINT ck_tenants_name CHECK (length(name) BETWEEN 1 AND 63 AND name NOT LIKE '%.%'), 
	CONSTRAINT ck_tenants_status CHECK (status IN ('active', 'suspended')), 
	CONSTRAINT uq_tenants_name UNIQUE (name)
)
 STRICT

;
INSERT INTO "tenants" VALUES
(1,'acme','active',0),
(2,'borealis','active',0);
CREATE TABLE upstream_credits (
	seq INTEGER NOT NULL, 
	tip_id INTEGER NOT NULL, 
	hashes BLOB NOT NULL, 
	CONSTRAINT pk_upstream_credits PRIMARY KEY (seq), 
	CONSTRAINT fk_upstream_credits_tip_id FOREIGN KEY(tip_id) REFERENCES upstream_tips (id)
)
 STRICT

;
CREATE TABLE upstream_days (
	day INTEGER NOT NULL, 
	worker_id INTEGER NOT NULL, 
	upstream_id INTEGER NOT NULL, 
	verdict TEXT NOT NULL, 
	shares INTEGER NOT NULL, 
	CONSTRAINT pk_upstream_days PRIMARY KEY (day, worker_id, upstream_id, verdict), 
	CONSTRAINT ck_upstream_days_shares CHECK (shares > 0), 
	CONSTRAINT ck_upstream_days_verdict CHECK (verdict IN ('accepted', 'rejected', 'unanswered')), 
	CONSTRAINT fk_upstream_days_upstream_id FOREIGN KEY(upstream_id) REFERENCES upstreams (id), 
	CONSTRAINT fk_upstream_days_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE upstream_endpoints (
	upstream_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	port INTEGER NOT NULL, 
	user_name TEXT NOT NULL, 
	password TEXT NOT NULL, 
	tls INTEGER NOT NULL, 
	ca_file TEXT, 
	CONSTRAINT pk_upstream_endpoints PRIMARY KEY (upstream_id, position), 
	CONSTRAINT ck_upstream_endpoints_port CHECK (port BETWEEN 1 AND 65535), 
	CONSTRAINT ck_upstream_endpoints_position CHECK (position >= 0), 
	CONSTRAINT ck_upstream_endpoints_tls CHECK (tls IN (0, 1)), 
	CONSTRAINT fk_upstream_endpoints_upstream_id FOREIGN KEY(upstream_id) REFERENCES upstreams (id)
)
 WITHOUT ROWID,
 STRICT

;
INSERT INTO "upstream_endpoints" VALUES
(1,0,'a.example',3333,'acme.farm7','hunter2-s3cret',0,NULL),
(1,1,'b.example',3333,'acme.farm7','hunter2-s3cret',0,NULL);
CREATE TABLE upstream_hours (
	hour INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	upstream_id INTEGER NOT NULL, 
	order_id INTEGER NOT NULL, 
	target TEXT NOT NULL, 
	verdict TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	shares INTEGER NOT NULL, 
	CONSTRAINT pk_upstream_hours PRIMARY KEY (hour, tenant_id, upstream_id, order_id, target, verdict, reason), 
	CONSTRAINT ck_upstream_hours_target CHECK (length(target) = 64), 
	CONSTRAINT ck_upstream_hours_shares CHECK (shares > 0), 
	CONSTRAINT ck_upstream_hours_reason CHECK (verdict = 'rejected' OR reason = ''), 
	CONSTRAINT ck_upstream_hours_verdict CHECK (verdict IN ('accepted', 'rejected', 'unanswered')), 
	CONSTRAINT fk_upstream_hours_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id), 
	CONSTRAINT fk_upstream_hours_upstream_id FOREIGN KEY(upstream_id) REFERENCES upstreams (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE upstream_submits (
	"key" TEXT NOT NULL, 
	worker_id INTEGER NOT NULL, 
	epoch INTEGER NOT NULL, 
	difficulty_log2 INTEGER NOT NULL, 
	counted INTEGER NOT NULL, 
	target TEXT NOT NULL, 
	noted_at_s INTEGER NOT NULL, 
	CONSTRAINT pk_upstream_submits PRIMARY KEY ("key"), 
	CONSTRAINT ck_upstream_submits_counted CHECK (counted IN (0, 1)), 
	CONSTRAINT ck_upstream_submits_difficulty_log2 CHECK (difficulty_log2 BETWEEN -32 AND 63), 
	CONSTRAINT ck_upstream_submits_target CHECK (length(target) = 64), 
	CONSTRAINT fk_upstream_submits_epoch FOREIGN KEY(epoch) REFERENCES rate_epochs (epoch), 
	CONSTRAINT fk_upstream_submits_worker_id FOREIGN KEY(worker_id) REFERENCES workers (id)
)
 WITHOUT ROWID,
 STRICT

;
CREATE TABLE upstream_tips (
	id INTEGER NOT NULL, 
	prevhash TEXT NOT NULL, 
	forgotten INTEGER NOT NULL, 
	CONSTRAINT pk_upstream_tips PRIMARY KEY (id), 
	CONSTRAINT uq_upstream_tips_prevhash UNIQUE (prevhash), 
	CONSTRAINT ck_upstream_tips_prevhash CHECK (length(prevhash) = 64), 
	CONSTRAINT ck_upstream_tips_forgotten CHECK (forgotten IN (0, 1))
)
 STRICT

;
CREATE TABLE upstreams (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	fallback_id INTEGER, 
	outage_s INTEGER NOT NULL, 
	connections INTEGER NOT NULL, 
	suggest_difficulty INTEGER, 
	status TEXT NOT NULL, 
	created_at_s INTEGER NOT NULL, 
	created_by TEXT NOT NULL, 
	CONSTRAINT pk_upstreams PRIMARY KEY (id), 
	CONSTRAINT ck_upstreams_connections CHECK (connections BETWEEN 1 AND 16), 
	CONSTRAINT ck_upstreams_name CHECK (length(name) BETWEEN 1 AND 63 AND name <> 'pool'), 
	CONSTRAINT ck_upstreams_outage_s CHECK (outage_s >= 0), 
	CONSTRAINT ck_upstreams_status CHECK (status IN ('active', 'removed')), 
	CONSTRAINT ck_upstreams_suggest_difficulty CHECK (suggest_difficulty > 0), 
	CONSTRAINT fk_upstreams_fallback_id FOREIGN KEY(fallback_id) REFERENCES upstreams (id), 
	CONSTRAINT uq_upstreams_name UNIQUE (name)
)
 STRICT

;
INSERT INTO "upstreams" VALUES
(1,'north',NULL,30,1,NULL,'active',1788220800,'olga');
CREATE TABLE workers (
	id INTEGER NOT NULL, 
	tenant_id INTEGER NOT NULL, 
	container_id INTEGER NOT NULL, 
	unit TEXT NOT NULL, 
	agent TEXT, 
	difficulty_log2 INTEGER, 
	first_seen_at_s INTEGER NOT NULL, 
	last_seen_at_s INTEGER NOT NULL, removed_at_s INTEGER, 
	CONSTRAINT pk_workers PRIMARY KEY (id), 
	CONSTRAINT ck_workers_difficulty_log2 CHECK (difficulty_log2 BETWEEN -32 AND 63), 
	CONSTRAINT fk_workers_container_id FOREIGN KEY(container_id) REFERENCES containers (id), 
	CONSTRAINT fk_workers_tenant_id FOREIGN KEY(tenant_id) REFERENCES tenants (id), 
	CONSTRAINT uq_workers_container_id_unit UNIQUE (container_id, unit)
)
 STRICT

;
INSERT INTO "workers" VALUES
(100,1,1,'u0',NULL,NULL,0,0,NULL),
(101,1,1,'u1',NULL,NULL,0,0,NULL),
(200,2,2,'u0',NULL,NULL,0,0,NULL),
(201,2,2,'u1',NULL,NULL,0,0,NULL),
(1000,1,1,'=HYPERLINK("http://x","y")',NULL,NULL,0,0,NULL),
(1001,1,1,'+1',NULL,NULL,0,0,NULL),
(1002,1,1,'-2+3',NULL,NULL,0,0,NULL),
(1003,1,1,'@SUM(A1)',NULL,NULL,0,0,NULL),
(1004,1,1,'<script>alert(1)</script>',NULL,NULL,0,0,NULL),
(1005,1,1,'Шахта-7',NULL,NULL,0,0,NULL);
CREATE INDEX ix_tenant_terms_tenant_id ON tenant_terms (tenant_id);
CREATE INDEX ix_tenant_addresses_tenant_id ON tenant_addresses (tenant_id);
CREATE INDEX ix_containers_site_id ON containers (site_id);
CREATE INDEX ix_workers_tenant_id ON workers (tenant_id);
CREATE INDEX ix_rates_tenant_id_id ON rates (tenant_id, id);
CREATE INDEX ix_rate_hours_unsettled ON rate_hours (hour) WHERE settled < shares;
CREATE INDEX ix_ledger_transfers_from_account_amount_sat ON ledger_transfers (from_account, amount_sat);
CREATE INDEX ix_ledger_transfers_to_account_amount_sat ON ledger_transfers (to_account, amount_sat);
CREATE INDEX ix_settlements_tenant_id_hour ON settlements (tenant_id, hour);
CREATE INDEX ix_settlements_tenant_id_seq ON settlements (tenant_id, seq);
CREATE TRIGGER tenant_terms_no_update BEFORE UPDATE ON tenant_terms  BEGIN SELECT RAISE(ABORT, 'tenant_terms is append-only'); END;
CREATE TRIGGER tenant_terms_no_delete BEFORE DELETE ON tenant_terms  BEGIN SELECT RAISE(ABORT, 'tenant_terms is append-only'); END;
CREATE TRIGGER tenant_addresses_no_update BEFORE UPDATE ON tenant_addresses  BEGIN SELECT RAISE(ABORT, 'tenant_addresses is append-only'); END;
CREATE TRIGGER tenant_addresses_no_delete BEFORE DELETE ON tenant_addresses  BEGIN SELECT RAISE(ABORT, 'tenant_addresses is append-only'); END;
CREATE TRIGGER fee_bases_no_update BEFORE UPDATE ON fee_bases  BEGIN SELECT RAISE(ABORT, 'fee_bases is append-only'); END;
CREATE TRIGGER fee_bases_no_delete BEFORE DELETE ON fee_bases  BEGIN SELECT RAISE(ABORT, 'fee_bases is append-only'); END;
CREATE TRIGGER fee_basis_blocks_no_update BEFORE UPDATE ON fee_basis_blocks  BEGIN SELECT RAISE(ABORT, 'fee_basis_blocks is append-only'); END;
CREATE TRIGGER fee_basis_blocks_no_delete BEFORE DELETE ON fee_basis_blocks  BEGIN SELECT RAISE(ABORT, 'fee_basis_blocks is append-only'); END;
CREATE TRIGGER rates_no_update BEFORE UPDATE ON rates  BEGIN SELECT RAISE(ABORT, 'rates is append-only'); END;
CREATE TRIGGER rates_no_delete BEFORE DELETE ON rates  BEGIN SELECT RAISE(ABORT, 'rates is append-only'); END;
CREATE TRIGGER ledger_accounts_no_update BEFORE UPDATE ON ledger_accounts  BEGIN SELECT RAISE(ABORT, 'ledger_accounts is append-only'); END;
CREATE TRIGGER ledger_accounts_no_delete BEFORE DELETE ON ledger_accounts  BEGIN SELECT RAISE(ABORT, 'ledger_accounts is append-only'); END;
CREATE TRIGGER ledger_transactions_no_update BEFORE UPDATE ON ledger_transactions  BEGIN SELECT RAISE(ABORT, 'ledger_transactions is append-only'); END;
CREATE TRIGGER ledger_transactions_no_delete BEFORE DELETE ON ledger_transactions  BEGIN SELECT RAISE(ABORT, 'ledger_transactions is append-only'); END;
CREATE TRIGGER ledger_transfers_no_update BEFORE UPDATE ON ledger_transfers  BEGIN SELECT RAISE(ABORT, 'ledger_transfers is append-only'); END;
CREATE TRIGGER ledger_transfers_no_delete BEFORE DELETE ON ledger_transfers  BEGIN SELECT RAISE(ABORT, 'ledger_transfers is append-only'); END;
CREATE TRIGGER settlements_no_update BEFORE UPDATE ON settlements  BEGIN SELECT RAISE(ABORT, 'settlements is append-only'); END;
CREATE TRIGGER settlements_no_delete BEFORE DELETE ON settlements  BEGIN SELECT RAISE(ABORT, 'settlements is append-only'); END;
CREATE TRIGGER settled_shares_no_update BEFORE UPDATE ON settled_shares  BEGIN SELECT RAISE(ABORT, 'settled_shares is append-only'); END;
CREATE TRIGGER settled_shares_no_delete BEFORE DELETE ON settled_shares  BEGIN SELECT RAISE(ABORT, 'settled_shares is append-only'); END;
CREATE TRIGGER blocks_no_update BEFORE UPDATE ON blocks  BEGIN SELECT RAISE(ABORT, 'blocks is append-only'); END;
CREATE TRIGGER blocks_no_delete BEFORE DELETE ON blocks  BEGIN SELECT RAISE(ABORT, 'blocks is append-only'); END;
CREATE TRIGGER rate_hours_no_delete BEFORE DELETE ON rate_hours  BEGIN SELECT RAISE(ABORT, 'rate_hours only grows'); END;
CREATE TRIGGER rate_hours_only_grows BEFORE UPDATE ON rate_hours WHEN (NEW.rate_id <> OLD.rate_id OR NEW.hour <> OLD.hour OR NEW.difficulty_log2 <> OLD.difficulty_log2 OR NEW.shares < OLD.shares OR NEW.settled < OLD.settled) BEGIN SELECT RAISE(ABORT, 'rate_hours only grows'); END;
CREATE UNIQUE INDEX ix_payout_batches_draft ON payout_batches (state) WHERE state = 'draft';
CREATE INDEX ix_payout_approvals_batch_id ON payout_approvals (batch_id);
CREATE TRIGGER payout_approvals_no_update BEFORE UPDATE ON payout_approvals  BEGIN SELECT RAISE(ABORT, 'payout_approvals is append-only'); END;
CREATE TRIGGER payout_approvals_no_delete BEFORE DELETE ON payout_approvals  BEGIN SELECT RAISE(ABORT, 'payout_approvals is append-only'); END;
CREATE TRIGGER payout_events_no_update BEFORE UPDATE ON payout_events  BEGIN SELECT RAISE(ABORT, 'payout_events is append-only'); END;
CREATE TRIGGER payout_events_no_delete BEFORE DELETE ON payout_events  BEGIN SELECT RAISE(ABORT, 'payout_events is append-only'); END;
CREATE TRIGGER payout_strangers_no_update BEFORE UPDATE ON payout_strangers  BEGIN SELECT RAISE(ABORT, 'payout_strangers is append-only'); END;
CREATE TRIGGER payout_strangers_no_delete BEFORE DELETE ON payout_strangers  BEGIN SELECT RAISE(ABORT, 'payout_strangers is append-only'); END;
CREATE TRIGGER rate_epochs_no_update BEFORE UPDATE ON rate_epochs  BEGIN SELECT RAISE(ABORT, 'rate_epochs is append-only'); END;
CREATE TRIGGER rate_epochs_no_delete BEFORE DELETE ON rate_epochs  BEGIN SELECT RAISE(ABORT, 'rate_epochs is append-only'); END;
CREATE TRIGGER rate_epoch_tenants_no_update BEFORE UPDATE ON rate_epoch_tenants  BEGIN SELECT RAISE(ABORT, 'rate_epoch_tenants is append-only'); END;
CREATE TRIGGER rate_epoch_tenants_no_delete BEFORE DELETE ON rate_epoch_tenants  BEGIN SELECT RAISE(ABORT, 'rate_epoch_tenants is append-only'); END;
CREATE INDEX ix_channel_events_at_s ON channel_events (at_s);
CREATE TRIGGER channel_events_no_update BEFORE UPDATE ON channel_events  BEGIN SELECT RAISE(ABORT, 'channel_events is append-only'); END;
CREATE TRIGGER channel_events_no_delete BEFORE DELETE ON channel_events  BEGIN SELECT RAISE(ABORT, 'channel_events is append-only'); END;
CREATE TRIGGER orders_no_delete BEFORE DELETE ON orders  BEGIN SELECT RAISE(ABORT, 'orders only grows'); END;
CREATE TRIGGER orders_only_grows BEFORE UPDATE ON orders WHEN (NEW.id <> OLD.id OR NEW.name <> OLD.name OR NEW.buyer <> OLD.buyer OR NEW.upstream_id <> OLD.upstream_id OR NEW.hashrate_ths <> OLD.hashrate_ths OR NEW.tolerance_bps <> OLD.tolerance_bps OR NEW.from_s <> OLD.from_s OR NEW.until_s <> OLD.until_s OR NEW.priority <> OLD.priority OR NEW.sat_per_ph_day <> OLD.sat_per_ph_day OR NEW.created_at_s <> OLD.created_at_s OR NEW.created_by <> OLD.created_by) BEGIN SELECT RAISE(ABORT, 'orders only grows'); END;
CREATE TRIGGER upstream_hours_no_delete BEFORE DELETE ON upstream_hours  BEGIN SELECT RAISE(ABORT, 'upstream_hours only grows'); END;
CREATE TRIGGER upstream_hours_only_grows BEFORE UPDATE ON upstream_hours WHEN (NEW.hour <> OLD.hour OR NEW.tenant_id <> OLD.tenant_id OR NEW.upstream_id <> OLD.upstream_id OR NEW.order_id <> OLD.order_id OR NEW.target <> OLD.target OR NEW.verdict <> OLD.verdict OR NEW.reason <> OLD.reason OR NEW.shares < OLD.shares) BEGIN SELECT RAISE(ABORT, 'upstream_hours only grows'); END;
CREATE INDEX ix_solo_blocks_tenant_id ON solo_blocks (tenant_id);
CREATE TRIGGER solo_blocks_no_update BEFORE UPDATE ON solo_blocks  BEGIN SELECT RAISE(ABORT, 'solo_blocks is append-only'); END;
CREATE TRIGGER solo_blocks_no_delete BEFORE DELETE ON solo_blocks  BEGIN SELECT RAISE(ABORT, 'solo_blocks is append-only'); END;
CREATE TRIGGER block_events_no_update BEFORE UPDATE ON block_events  BEGIN SELECT RAISE(ABORT, 'block_events is append-only'); END;
CREATE TRIGGER block_events_no_delete BEFORE DELETE ON block_events  BEGIN SELECT RAISE(ABORT, 'block_events is append-only'); END;
CREATE TRIGGER sibling_blocks_no_delete BEFORE DELETE ON sibling_blocks  BEGIN SELECT RAISE(ABORT, 'sibling_blocks only grows'); END;
CREATE TRIGGER sibling_blocks_only_grows BEFORE UPDATE ON sibling_blocks WHEN (NEW.parent_hash <> OLD.parent_hash OR NEW.worker_id <> OLD.worker_id OR NEW.pays_pool <> OLD.pays_pool OR NEW.height <> OLD.height OR NEW.found_at_s <> OLD.found_at_s OR NEW.blocks < OLD.blocks) BEGIN SELECT RAISE(ABORT, 'sibling_blocks only grows'); END;
CREATE TRIGGER book_set_once BEFORE UPDATE ON book WHEN ((OLD.network IS NOT NULL AND (NEW.network IS NULL OR NEW.network <> OLD.network)) OR (OLD.genesis IS NOT NULL AND (NEW.genesis IS NULL OR NEW.genesis <> OLD.genesis)) OR (OLD.signet_challenge IS NOT NULL AND (NEW.signet_challenge IS NULL OR NEW.signet_challenge <> OLD.signet_challenge))) BEGIN SELECT RAISE(ABORT, 'what book is bound to never changes'); END;
CREATE INDEX ix_proposals_kind_subject ON proposals (kind, subject);
CREATE TRIGGER proposals_no_update BEFORE UPDATE ON proposals  BEGIN SELECT RAISE(ABORT, 'proposals is append-only'); END;
CREATE TRIGGER proposals_no_delete BEFORE DELETE ON proposals  BEGIN SELECT RAISE(ABORT, 'proposals is append-only'); END;
CREATE TRIGGER confirmations_no_update BEFORE UPDATE ON confirmations  BEGIN SELECT RAISE(ABORT, 'confirmations is append-only'); END;
CREATE TRIGGER confirmations_no_delete BEFORE DELETE ON confirmations  BEGIN SELECT RAISE(ABORT, 'confirmations is append-only'); END;
CREATE INDEX ix_upstream_credits_tip_id_seq ON upstream_credits (tip_id, seq);
CREATE TRIGGER book_no_delete BEFORE DELETE ON book  BEGIN SELECT RAISE(ABORT, 'book only grows'); END;
CREATE TRIGGER book_only_grows BEFORE UPDATE ON book WHEN (NEW.id <> OLD.id OR NEW.ordered_from_seq <> OLD.ordered_from_seq OR NEW.ordered_from_s <> OLD.ordered_from_s OR NEW.based_from_rate <> OLD.based_from_rate OR NEW.latest_s < OLD.latest_s OR NEW.lease_epoch < OLD.lease_epoch) BEGIN SELECT RAISE(ABORT, 'book only grows'); END;
CREATE INDEX ix_payout_items_tenant_id ON payout_items (tenant_id);
CREATE INDEX ix_payout_inputs_txid_vout ON payout_inputs (txid, vout);
CREATE TRIGGER payout_items_no_update BEFORE UPDATE ON payout_items  BEGIN SELECT RAISE(ABORT, 'payout_items is append-only'); END;
CREATE TRIGGER payout_items_no_delete BEFORE DELETE ON payout_items  BEGIN SELECT RAISE(ABORT, 'payout_items is append-only'); END;
CREATE TRIGGER payout_inputs_no_update BEFORE UPDATE ON payout_inputs  BEGIN SELECT RAISE(ABORT, 'payout_inputs is append-only'); END;
CREATE TRIGGER payout_inputs_no_delete BEFORE DELETE ON payout_inputs  BEGIN SELECT RAISE(ABORT, 'payout_inputs is append-only'); END;
COMMIT;
