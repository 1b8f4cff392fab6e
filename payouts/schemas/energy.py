"""The tables of energy as money: what a kWh costs, what it was worth in satoshi and in carbon, what was drawn
as the books took it, and what was charged, forgone and paid for it.

Prices are micro-units of a currency for a kWh (SAT is one), energy is joules, times are Unix seconds, hours
count since 1970.

Invariants, held by triggers that the migrations create: the tables in APPEND_ONLY take no UPDATE and no
DELETE: a tariff, an exchange rate, a hosting term is another row, and energy that was read late is the next
part of its hour. `energy_to_charge` and `energy_taken` are where the bookkeeper is, and keep their keys.

Must not know: how energy is measured, and who tells machines what.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, UniqueConstraint, text

from payouts.schemas.money import counted, number, one_of, table, words

TARIFFS = ("fixed", "hourly", "tiered")
METHODS = ("location", "market")
CHARGES = ("none", "fee", "tariff")
BASES = ("forgone", "shed")
CURRENCY = "length(currency) BETWEEN 3 AND 8"

# The newest row that has a price for an hour of its site is in force then.
power_tariffs = table(
    "power_tariffs",
    counted("id", "power_tariffs"),
    number("site_id", ForeignKey("sites.id"), nullable=True),  # NULL: all sites
    words("name"),
    words("kind"),
    words("currency"),
    number("price_micro", nullable=True),  # of a fixed one; may be negative
    number("from_s"),
    number("until_s", nullable=True),
    words("source"),
    number("added_at_s"),
    words("added_by"),
    one_of("kind", TARIFFS),
    CheckConstraint(CURRENCY, name="currency"),
    CheckConstraint("(kind = 'fixed') = (price_micro IS NOT NULL)", name="price_micro"),
    CheckConstraint("from_s % 3600 = 0", name="from_s"),
    CheckConstraint("until_s IS NULL OR (until_s > from_s AND until_s % 3600 = 0)", name="until_s"),
)
power_tariff_hours = table(
    "power_tariff_hours",
    number("tariff_id", ForeignKey("power_tariffs.id")),
    number("hour"),
    number("price_micro"),
    PrimaryKeyConstraint("tariff_id", "hour"),
    clustered=True,
)
# A tier begins at so many kWh of a month (UTC).
power_tariff_tiers = table(
    "power_tariff_tiers",
    number("tariff_id", ForeignKey("power_tariffs.id")),
    number("from_kwh"),
    number("price_micro"),
    PrimaryKeyConstraint("tariff_id", "from_kwh"),
    CheckConstraint("from_kwh >= 0", name="from_kwh"),
    clustered=True,
)
# Satoshi for a unit of the currency, as a fraction: from then on, until the next.
power_exchange = table(
    "power_exchange",
    counted("id", "power_exchange"),
    words("currency"),
    number("sat_numerator"),
    number("sat_denominator"),
    number("from_s"),
    words("source"),
    number("added_at_s"),
    words("added_by"),
    CheckConstraint(CURRENCY, name="currency"),
    CheckConstraint("sat_numerator > 0 AND sat_denominator > 0", name="sat_numerator"),
    Index(None, "currency", "from_s"),
)
power_carbon = table(
    "power_carbon",
    counted("id", "power_carbon"),
    number("site_id", ForeignKey("sites.id"), nullable=True),  # NULL: all sites
    words("method"),
    number("from_hour"),
    number("until_hour"),
    number("mg_per_kwh"),
    words("source"),
    number("added_at_s"),
    words("added_by"),
    one_of("method", METHODS),
    CheckConstraint("until_hour > from_hour", name="until_hour"),
    CheckConstraint("mg_per_kwh >= 0", name="mg_per_kwh"),
    Index(None, "method", "until_hour"),
)
# What a tenant pays for energy: nothing, a fee of its own, or the site's tariff; and what part of a payment
# from the grid for its machines is the operator's. The newest row that is in force at an hour counts.
hosting_terms = table(
    "hosting_terms",
    counted("id", "hosting_terms"),
    number("tenant_id", ForeignKey("tenants.id")),
    words("charge"),
    number("fee_micro", nullable=True),
    words("currency", nullable=True),
    number("grid_operator_bps"),
    number("from_s"),
    number("changed_at_s"),
    words("changed_by"),
    one_of("charge", CHARGES),
    CheckConstraint("(charge = 'fee') = (fee_micro IS NOT NULL)", name="fee_micro"),
    CheckConstraint("(charge = 'fee') = (currency IS NOT NULL)", name="currency"),
    CheckConstraint("grid_operator_bps BETWEEN 0 AND 10000", name="grid_operator_bps"),
    CheckConstraint("from_s % 3600 = 0 AND from_s >= changed_at_s", name="from_s"),
    Index(None, "tenant_id"),
)

# Energy of a container in an hour as the books took it; a later part is what was read late, more or less.
booked_energy = table(
    "booked_energy",
    number("container_id", ForeignKey("containers.id")),
    number("hour"),
    number("part"),
    number("tenant_id", ForeignKey("tenants.id")),
    number("site_id", ForeignKey("sites.id"), nullable=True),
    number("metered_j"),
    number("estimated_j"),
    number("error_j"),  # by so much the whole may be off, both ways
    number("taken_at_s"),
    PrimaryKeyConstraint("container_id", "hour", "part"),
    CheckConstraint("part >= 0", name="part"),
    Index(None, "tenant_id", "taken_at_s"),
    Index(None, "hour"),
    clustered=True,
)
# Its sum by tenant and site (0: none), and how much of that is charged. `terms_id` NULL: nothing is.
energy_to_charge = table(
    "energy_to_charge",
    number("tenant_id", ForeignKey("tenants.id")),
    number("site_id"),
    number("hour"),
    number("terms_id", ForeignKey("hosting_terms.id"), nullable=True),
    number("joules"),
    number("charged_j"),
    PrimaryKeyConstraint("tenant_id", "site_id", "hour"),
    CheckConstraint("joules >= 0 AND charged_j >= 0", name="joules"),
    Index(
        "ix_energy_to_charge_open",
        "hour",
        sqlite_where=text("terms_id IS NOT NULL AND charged_j <> joules"),
        postgresql_where=text("terms_id IS NOT NULL AND charged_j <> joules"),
    ),
    clustered=True,
)
energy_taken = table(
    "energy_taken",
    number("id"),
    number("first_hour"),
    number("next_hour"),  # all before it were taken
    PrimaryKeyConstraint("id"),
    CheckConstraint("id = 1", name="id"),
)

# carry_in + amount (floored to psat, either way) = posted satoshi + carry_out. Part 0 is an hour's charge;
# later parts are what its energy changed by, at the same price. `month_j` is what the tariff's tiers had
# been given before, of a tiered one.
energy_charges = table(
    "energy_charges",
    counted("seq", "energy_charges"),
    number("tenant_id", ForeignKey("tenants.id")),
    number("site_id"),
    number("hour"),
    number("part"),
    number("terms_id", ForeignKey("hosting_terms.id")),
    number("tariff_id", ForeignKey("power_tariffs.id"), nullable=True),
    number("exchange_id", ForeignKey("power_exchange.id"), nullable=True),
    number("joules"),
    number("month_j", nullable=True),
    number("amount_sat"),
    number("amount_psat"),
    number("carry_in_psat"),
    number("posted_sat"),
    number("carry_out_psat"),
    number("charged_at_s"),
    UniqueConstraint("tenant_id", "site_id", "hour", "part"),
    CheckConstraint("part >= 0", name="part"),
    CheckConstraint("joules <> 0", name="joules"),
    *(
        CheckConstraint(f"{column} BETWEEN 0 AND 999999999999", name=column)
        for column in ("amount_psat", "carry_in_psat", "carry_out_psat")
    ),
    Index(None, "tenant_id", "seq"),
)
# What a tenant owes for energy, after each step: a charge, or where there is none what was collected.
energy_dues = table(
    "energy_dues",
    counted("seq", "energy_dues"),
    number("tenant_id", ForeignKey("tenants.id")),
    number("charge_seq", ForeignKey("energy_charges.seq"), nullable=True),
    number("change_sat"),
    number("due_sat"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq")),
    number("booked_at_s"),
    UniqueConstraint("charge_seq"),
    UniqueConstraint("transaction_seq"),
    CheckConstraint("change_sat <> 0", name="change_sat"),
    Index(None, "tenant_id", "seq"),
)

# A curtailment that is over, as the books have it for ever.
booked_events = table(
    "booked_events",
    number("event_id"),
    words("site"),
    words("source"),
    words("reference"),
    words("asked_by"),
    number("from_s"),
    number("ended_at_s"),
    number("watts_asked", nullable=True),
    number("watts_metered", nullable=True),  # by how much less a meter was given, where there is one
    number("booked_at_s"),
    PrimaryKeyConstraint("event_id"),
    CheckConstraint("ended_at_s >= from_s", name="ended_at_s"),
)
# By tenant: machines that were off by their work, for how long together, what they did not draw, and what
# their work before would have been paid; `error_sat` bounds that both ways.
booked_event_parts = table(
    "booked_event_parts",
    number("event_id", ForeignKey("booked_events.event_id")),
    number("tenant_id", ForeignKey("tenants.id")),
    number("machines"),
    number("machines_off"),
    number("off_s"),
    number("watts_shed"),
    number("joules_shed"),
    number("difficulty"),  # of the shares that were not found, in whole ones
    number("forgone_sat"),
    number("forgone_psat"),
    number("error_sat"),
    PrimaryKeyConstraint("event_id", "tenant_id"),
    CheckConstraint("machines_off BETWEEN 0 AND machines", name="machines_off"),
    CheckConstraint("forgone_sat >= 0 AND error_sat >= 0", name="forgone_sat"),
    CheckConstraint("forgone_psat BETWEEN 0 AND 999999999999", name="forgone_psat"),
    clustered=True,
)
# What the grid paid for an event; `reference` is the payer's own name for it: the same one is booked once.
grid_payments = table(
    "grid_payments",
    counted("id", "grid_payments"),
    number("event_id", ForeignKey("booked_events.event_id")),
    words("reference"),
    words("currency"),
    number("amount_micro"),
    number("exchange_id", ForeignKey("power_exchange.id"), nullable=True),
    number("amount_sat"),
    words("basis"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq")),
    number("booked_at_s"),
    words("booked_by"),
    UniqueConstraint("event_id", "reference"),
    UniqueConstraint("transaction_seq"),
    one_of("basis", BASES),
    CheckConstraint("amount_sat > 0 AND amount_micro > 0", name="amount_sat"),
)
grid_payment_parts = table(
    "grid_payment_parts",
    number("payment_id", ForeignKey("grid_payments.id")),
    number("tenant_id", ForeignKey("tenants.id")),
    number("operator_bps"),
    number("operator_sat"),
    number("tenant_sat"),
    PrimaryKeyConstraint("payment_id", "tenant_id"),
    CheckConstraint("operator_sat >= 0 AND tenant_sat >= 0", name="operator_sat"),
    clustered=True,
)

APPEND_ONLY = (
    "power_tariffs",
    "power_tariff_hours",
    "power_tariff_tiers",
    "power_exchange",
    "power_carbon",
    "hosting_terms",
    "booked_energy",
    "energy_charges",
    "energy_dues",
    "booked_events",
    "booked_event_parts",
    "grid_payments",
    "grid_payment_parts",
)
