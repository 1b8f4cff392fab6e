"""Energy as money: tariffs, exchange rates, carbon and hosting terms; energy as the books took it, what was
charged and is due for it; curtailments that are over, and what the grid paid for them.
"""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced, only_grows

revision = "0030"
down_revision = "0029"

# Append-only, by what no other row may have.
APPEND_ONLY = {
    "power_tariffs": (("id",),),
    "power_tariff_hours": (("tariff_id", "hour"),),
    "power_tariff_tiers": (("tariff_id", "from_kwh"),),
    "power_exchange": (("id",),),
    "power_carbon": (("id",),),
    "hosting_terms": (("id",),),
    "booked_energy": (("container_id", "hour", "part"),),
    "energy_charges": (("seq",), ("tenant_id", "site_id", "hour", "part")),
    "energy_dues": (("charge_seq",), ("seq",), ("transaction_seq",)),
    "booked_events": (("event_id",),),
    "booked_event_parts": (("event_id", "tenant_id"),),
    "grid_payments": (("event_id", "reference"), ("id",), ("transaction_seq",)),
    "grid_payment_parts": (("payment_id", "tenant_id"),),
}
ACCOUNTS = ("energy_income", "energy_due", "grid_received", "grid_income")
OPEN = "terms_id IS NOT NULL AND charged_j <> joules"


def upgrade() -> None:
    """Create the tables, their triggers, and the accounts of energy and of the grid."""
    _create_prices()
    _create_charges()
    _create_events()
    append_only(APPEND_ONLY)
    if not is_postgresql():
        for name, keys in APPEND_ONLY.items():
            never_replaced(name, keys)
    only_grows("energy_to_charge", ("tenant_id", "site_id", "hour"), ())
    only_grows("energy_taken", ("id", "first_hour"), ("next_hour",))
    for kind in ACCOUNTS:
        account = text("INSERT INTO ledger_accounts (name, kind) VALUES (:name, :kind)")
        op.get_bind().execute(account, {"name": f"pool.{kind}", "kind": kind})


def _create_prices() -> None:
    create_table(
        "power_tariffs",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("site_id", nullable=True),
        words("name"),
        words("kind"),
        words("currency"),
        number("price_micro", nullable=True),
        number("from_s"),
        number("until_s", nullable=True),
        words("source"),
        number("added_at_s"),
        words("added_by"),
        CheckConstraint("length(currency) BETWEEN 3 AND 8", name="ck_power_tariffs_currency"),
        CheckConstraint("from_s % 3600 = 0", name="ck_power_tariffs_from_s"),
        CheckConstraint("kind IN ('fixed', 'hourly', 'tiered')", name="ck_power_tariffs_kind"),
        CheckConstraint("(kind = 'fixed') = (price_micro IS NOT NULL)", name="ck_power_tariffs_price_micro"),
        CheckConstraint(
            "until_s IS NULL OR (until_s > from_s AND until_s % 3600 = 0)", name="ck_power_tariffs_until_s"
        ),
        ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_power_tariffs_site_id"),
        PrimaryKeyConstraint("id", name="pk_power_tariffs"),
    )
    create_table(
        "power_tariff_hours",
        number("tariff_id"),
        number("hour"),
        number("price_micro"),
        ForeignKeyConstraint(["tariff_id"], ["power_tariffs.id"], name="fk_power_tariff_hours_tariff_id"),
        PrimaryKeyConstraint("tariff_id", "hour", name="pk_power_tariff_hours"),
        clustered=True,
    )
    create_table(
        "power_tariff_tiers",
        number("tariff_id"),
        number("from_kwh"),
        number("price_micro"),
        CheckConstraint("from_kwh >= 0", name="ck_power_tariff_tiers_from_kwh"),
        ForeignKeyConstraint(["tariff_id"], ["power_tariffs.id"], name="fk_power_tariff_tiers_tariff_id"),
        PrimaryKeyConstraint("tariff_id", "from_kwh", name="pk_power_tariff_tiers"),
        clustered=True,
    )
    create_table(
        "power_exchange",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("currency"),
        number("sat_numerator"),
        number("sat_denominator"),
        number("from_s"),
        words("source"),
        number("added_at_s"),
        words("added_by"),
        CheckConstraint("length(currency) BETWEEN 3 AND 8", name="ck_power_exchange_currency"),
        CheckConstraint("sat_numerator > 0 AND sat_denominator > 0", name="ck_power_exchange_sat_numerator"),
        PrimaryKeyConstraint("id", name="pk_power_exchange"),
        Index("ix_power_exchange_currency_from_s", "currency", "from_s"),
    )
    create_table(
        "power_carbon",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("site_id", nullable=True),
        words("method"),
        number("from_hour"),
        number("until_hour"),
        number("mg_per_kwh"),
        words("source"),
        number("added_at_s"),
        words("added_by"),
        CheckConstraint("method IN ('location', 'market')", name="ck_power_carbon_method"),
        CheckConstraint("mg_per_kwh >= 0", name="ck_power_carbon_mg_per_kwh"),
        CheckConstraint("until_hour > from_hour", name="ck_power_carbon_until_hour"),
        ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_power_carbon_site_id"),
        PrimaryKeyConstraint("id", name="pk_power_carbon"),
        Index("ix_power_carbon_method_until_hour", "method", "until_hour"),
    )
    create_table(
        "hosting_terms",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("tenant_id"),
        words("charge"),
        number("fee_micro", nullable=True),
        words("currency", nullable=True),
        number("grid_operator_bps"),
        number("from_s"),
        number("changed_at_s"),
        words("changed_by"),
        CheckConstraint("charge IN ('none', 'fee', 'tariff')", name="ck_hosting_terms_charge"),
        CheckConstraint("(charge = 'fee') = (currency IS NOT NULL)", name="ck_hosting_terms_currency"),
        CheckConstraint("(charge = 'fee') = (fee_micro IS NOT NULL)", name="ck_hosting_terms_fee_micro"),
        CheckConstraint("from_s % 3600 = 0 AND from_s >= changed_at_s", name="ck_hosting_terms_from_s"),
        CheckConstraint("grid_operator_bps BETWEEN 0 AND 10000", name="ck_hosting_terms_grid_operator_bps"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_hosting_terms_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_hosting_terms"),
        Index("ix_hosting_terms_tenant_id", "tenant_id"),
    )


def _create_charges() -> None:
    create_table(
        "booked_energy",
        number("container_id"),
        number("hour"),
        number("part"),
        number("tenant_id"),
        number("site_id", nullable=True),
        number("metered_j"),
        number("estimated_j"),
        number("error_j"),
        number("taken_at_s"),
        CheckConstraint("part >= 0", name="ck_booked_energy_part"),
        ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_booked_energy_site_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_booked_energy_tenant_id"),
        ForeignKeyConstraint(["container_id"], ["containers.id"], name="fk_booked_energy_container_id"),
        PrimaryKeyConstraint("container_id", "hour", "part", name="pk_booked_energy"),
        Index("ix_booked_energy_hour", "hour"),
        Index("ix_booked_energy_tenant_id_taken_at_s", "tenant_id", "taken_at_s"),
        clustered=True,
    )
    create_table(
        "energy_to_charge",
        number("tenant_id"),
        number("site_id"),
        number("hour"),
        number("terms_id", nullable=True),
        number("joules"),
        number("charged_j"),
        CheckConstraint("joules >= 0 AND charged_j >= 0", name="ck_energy_to_charge_joules"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_energy_to_charge_tenant_id"),
        ForeignKeyConstraint(["terms_id"], ["hosting_terms.id"], name="fk_energy_to_charge_terms_id"),
        PrimaryKeyConstraint("tenant_id", "site_id", "hour", name="pk_energy_to_charge"),
        Index("ix_energy_to_charge_open", "hour", sqlite_where=text(OPEN), postgresql_where=text(OPEN)),
        clustered=True,
    )
    create_table(
        "energy_taken",
        Column("id", INTEGER, nullable=False),
        number("first_hour"),
        number("next_hour"),
        CheckConstraint("id = 1", name="ck_energy_taken_id"),
        PrimaryKeyConstraint("id", name="pk_energy_taken"),
    )
    create_table(
        "energy_charges",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        number("tenant_id"),
        number("site_id"),
        number("hour"),
        number("part"),
        number("terms_id"),
        number("tariff_id", nullable=True),
        number("exchange_id", nullable=True),
        number("joules"),
        number("month_j", nullable=True),
        number("amount_sat"),
        number("amount_psat"),
        number("carry_in_psat"),
        number("posted_sat"),
        number("carry_out_psat"),
        number("charged_at_s"),
        CheckConstraint("amount_psat BETWEEN 0 AND 999999999999", name="ck_energy_charges_amount_psat"),
        CheckConstraint("carry_in_psat BETWEEN 0 AND 999999999999", name="ck_energy_charges_carry_in_psat"),
        CheckConstraint("carry_out_psat BETWEEN 0 AND 999999999999", name="ck_energy_charges_carry_out_psat"),
        CheckConstraint("joules <> 0", name="ck_energy_charges_joules"),
        CheckConstraint("part >= 0", name="ck_energy_charges_part"),
        ForeignKeyConstraint(["terms_id"], ["hosting_terms.id"], name="fk_energy_charges_terms_id"),
        ForeignKeyConstraint(["exchange_id"], ["power_exchange.id"], name="fk_energy_charges_exchange_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_energy_charges_tenant_id"),
        ForeignKeyConstraint(["tariff_id"], ["power_tariffs.id"], name="fk_energy_charges_tariff_id"),
        PrimaryKeyConstraint("seq", name="pk_energy_charges"),
        UniqueConstraint(
            "tenant_id", "site_id", "hour", "part", name="uq_energy_charges_tenant_id_site_id_hour_part"
        ),
        Index("ix_energy_charges_tenant_id_seq", "tenant_id", "seq"),
    )
    create_table(
        "energy_dues",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        number("tenant_id"),
        number("charge_seq", nullable=True),
        number("change_sat"),
        number("due_sat"),
        number("transaction_seq"),
        number("booked_at_s"),
        CheckConstraint("change_sat <> 0", name="ck_energy_dues_change_sat"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_energy_dues_transaction_seq"
        ),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_energy_dues_tenant_id"),
        ForeignKeyConstraint(["charge_seq"], ["energy_charges.seq"], name="fk_energy_dues_charge_seq"),
        PrimaryKeyConstraint("seq", name="pk_energy_dues"),
        UniqueConstraint("transaction_seq", name="uq_energy_dues_transaction_seq"),
        UniqueConstraint("charge_seq", name="uq_energy_dues_charge_seq"),
        Index("ix_energy_dues_tenant_id_seq", "tenant_id", "seq"),
    )


def _create_events() -> None:
    create_table(
        "booked_events",
        number("event_id"),
        words("site"),
        words("source"),
        words("reference"),
        words("asked_by"),
        number("from_s"),
        number("ended_at_s"),
        number("watts_asked", nullable=True),
        number("watts_metered", nullable=True),
        number("booked_at_s"),
        CheckConstraint("ended_at_s >= from_s", name="ck_booked_events_ended_at_s"),
        PrimaryKeyConstraint("event_id", name="pk_booked_events"),
    )
    create_table(
        "booked_event_parts",
        number("event_id"),
        number("tenant_id"),
        number("machines"),
        number("machines_off"),
        number("off_s"),
        number("watts_shed"),
        number("joules_shed"),
        number("difficulty"),
        number("forgone_sat"),
        number("forgone_psat"),
        number("error_sat"),
        CheckConstraint("forgone_psat BETWEEN 0 AND 999999999999", name="ck_booked_event_parts_forgone_psat"),
        CheckConstraint("forgone_sat >= 0 AND error_sat >= 0", name="ck_booked_event_parts_forgone_sat"),
        CheckConstraint("machines_off BETWEEN 0 AND machines", name="ck_booked_event_parts_machines_off"),
        ForeignKeyConstraint(["event_id"], ["booked_events.event_id"], name="fk_booked_event_parts_event_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_booked_event_parts_tenant_id"),
        PrimaryKeyConstraint("event_id", "tenant_id", name="pk_booked_event_parts"),
        clustered=True,
    )
    create_table(
        "grid_payments",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("event_id"),
        words("reference"),
        words("currency"),
        number("amount_micro"),
        number("exchange_id", nullable=True),
        number("amount_sat"),
        words("basis"),
        number("transaction_seq"),
        number("booked_at_s"),
        words("booked_by"),
        CheckConstraint("amount_sat > 0 AND amount_micro > 0", name="ck_grid_payments_amount_sat"),
        CheckConstraint("basis IN ('forgone', 'shed')", name="ck_grid_payments_basis"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_grid_payments_transaction_seq"
        ),
        ForeignKeyConstraint(["event_id"], ["booked_events.event_id"], name="fk_grid_payments_event_id"),
        ForeignKeyConstraint(["exchange_id"], ["power_exchange.id"], name="fk_grid_payments_exchange_id"),
        PrimaryKeyConstraint("id", name="pk_grid_payments"),
        UniqueConstraint("event_id", "reference", name="uq_grid_payments_event_id_reference"),
        UniqueConstraint("transaction_seq", name="uq_grid_payments_transaction_seq"),
    )
    create_table(
        "grid_payment_parts",
        number("payment_id"),
        number("tenant_id"),
        number("operator_bps"),
        number("operator_sat"),
        number("tenant_sat"),
        CheckConstraint("operator_sat >= 0 AND tenant_sat >= 0", name="ck_grid_payment_parts_operator_sat"),
        ForeignKeyConstraint(["payment_id"], ["grid_payments.id"], name="fk_grid_payment_parts_payment_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_grid_payment_parts_tenant_id"),
        PrimaryKeyConstraint("payment_id", "tenant_id", name="pk_grid_payment_parts"),
        clustered=True,
    )
