"""Roles and databases that everything else expects in PostgreSQL, made as its superuser.

Belongs here: who may log in, who owns what, and the extension only a superuser may add.
Does not belong here: tables, policies and grants on tables: the migrations make them as `twin_owner`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lpm_kernel.embedded.postgres import superuser_parameters

if TYPE_CHECKING:
    from psycopg import Connection

    from lpm_kernel.embedded.state import State

LOGIN_ROLES = ("twin_owner", "twin_app", "dagster")
OPERATOR_ROLE = "twin_operator"
DATABASES = {"twin": "twin_owner", "dagster": "dagster"}
MAY_CONNECT = {"twin": ("twin_owner", "twin_app"), "dagster": ("dagster",)}
HARMLESS = "nosuperuser nocreatedb nocreaterole noreplication nobypassrls"


def bootstrap(state: State) -> None:
    """Bring roles, passwords, databases and the vector extension to what they must be.

    Idempotent. Raises: psycopg.Error.
    """
    import psycopg

    # create database runs in no transaction
    with psycopg.connect(**superuser_parameters(state), autocommit=True) as connection:  # type: ignore[arg-type]
        _make_roles(connection, state)
        _make_databases(connection)
    with psycopg.connect(**superuser_parameters(state, "twin")) as connection:  # type: ignore[arg-type]
        connection.execute("create extension if not exists vector")
        connection.execute("alter schema public owner to twin_owner")
        connection.execute("revoke create on schema public from public")
        connection.execute("grant usage on schema public to twin_app, twin_operator")


def _make_roles(connection: Connection[Any], state: State) -> None:
    from psycopg.sql import SQL, Identifier, Literal

    known = {name for (name,) in connection.execute("select rolname from pg_roles")}
    for role in (*LOGIN_ROLES, OPERATOR_ROLE):
        if role not in known:
            connection.execute(SQL("create role {}").format(Identifier(role)))
    for role in LOGIN_ROLES:
        # the hash is made here, so that the password is in no statement that a server might log
        password = connection.pgconn.encrypt_password(state.secrets[role].encode(), role.encode(), b"scram-sha-256").decode()
        connection.execute(SQL(f"alter role {{}} login {HARMLESS} password {{}}").format(Identifier(role), Literal(password)))
    connection.execute(SQL(f"alter role {{}} nologin {HARMLESS}").format(Identifier(OPERATOR_ROLE)))
    # the application steps into the operator's role by name, in one transaction; by itself it inherits nothing of it
    connection.execute(SQL("grant {} to twin_app with inherit false, set true").format(Identifier(OPERATOR_ROLE)))


def _make_databases(connection: Connection[Any]) -> None:
    from psycopg.sql import SQL, Identifier

    known = {name for (name,) in connection.execute("select datname from pg_database")}
    connection.execute("revoke connect on database postgres from public")
    for database, owner in DATABASES.items():
        named, owned = Identifier(database), Identifier(owner)
        if database not in known:
            connection.execute(SQL("create database {} owner {}").format(named, owned))
        connection.execute(SQL("alter database {} owner to {}").format(named, owned))
        connection.execute(SQL("revoke all on database {} from public").format(named))
        for role in MAY_CONNECT[database]:
            connection.execute(SQL("grant connect, temporary on database {} to {}").format(named, Identifier(role)))
