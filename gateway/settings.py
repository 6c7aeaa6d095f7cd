"""Every setting, from the environment, `.env.local` and `.env`, in that order.

A value that cannot be meant stops the start with a sentence that names it. What each variable does
is told in docs/configuration.md; a test holds that page to the names read here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from gateway.databases import postgres, sqlite
from gateway.environment import Environment, EnvironmentMistake, gather
from gateway.keyring import derive, encryption_keys, kept_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
ENVIRONMENT = Environment(gather(BASE_DIR, os.environ))

# Where it runs
DEBUG = ENVIRONMENT.flag("DJANGO_DEBUG", False)
HOST = ENVIRONMENT.text("HOST", "127.0.0.1")
PORT = ENVIRONMENT.whole("PORT", 8000, low=1, high=65535)
WORKERS = ENVIRONMENT.whole("WORKERS", 1, low=1, high=256)
SHUTDOWN_DELAY_SECONDS = ENVIRONMENT.seconds("SHUTDOWN_DELAY_SECONDS", 2)
DRAIN_SECONDS = ENVIRONMENT.whole("DRAIN_SECONDS", 30, low=0, high=3600)
DATA_DIR = Path(ENVIRONMENT.text("DATA_DIR", str(BASE_DIR / "var"))).expanduser().absolute()
REDIS_URL = ENVIRONMENT.url("REDIS_URL", "redis", "rediss", "unix")
DATABASE_URL = ENVIRONMENT.url("DATABASE_URL", "postgres", "postgresql")
CONFIG_FILE = ENVIRONMENT.optional("CONFIG_FILE")

if DATABASE_URL is None and WORKERS > 1:
    raise EnvironmentMistake(
        "WORKERS must be 1 with SQLite: it takes one writer at a time, and limits are counted in the one "
        "process. Set DATABASE_URL to a PostgreSQL to run more."
    )
DATABASES: dict[str, dict[str, Any]] = {
    "default": sqlite(DATA_DIR) if DATABASE_URL is None else postgres(DATABASE_URL)
}

# Secrets
try:
    DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    SECRET_KEY = ENVIRONMENT.optional("SECRET_KEY") or kept_secret_key(DATA_DIR)
except OSError as error:
    raise EnvironmentMistake(f"DATA_DIR: {DATA_DIR} cannot be written: {error.strerror}.") from None
KEY_PEPPER = ENVIRONMENT.text("KEY_PEPPER", "").encode() or derive(SECRET_KEY, "tollgate: pepper of keys")
ENCRYPTION_KEYS = encryption_keys(ENVIRONMENT.words("ENCRYPTION_KEYS"), SECRET_KEY)

# Who may reach it, and through what
CORS_ORIGIN = ENVIRONMENT.text("CORS_ORIGIN", "*")
TRUSTED_PROXIES = ENVIRONMENT.networks("TRUSTED_PROXIES")
ALLOWED_HOSTS = ENVIRONMENT.words("ALLOWED_HOSTS", "*")
BEHIND_TLS = ENVIRONMENT.flag("BEHIND_TLS", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_TLS else None
SECURE_HSTS_SECONDS = 31_536_000 if BEHIND_TLS else 0
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
# Never the session's table: the message with a new key would be there in the clear until it is read.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS for subdomains, and
    "security.W021",  # preloading it: decisions of whoever owns the domain
    "security.W008",  # a redirect to HTTPS: the proxy's job, and API clients do not follow one
]

# What the first start makes; the rows it makes are the operators' from then on
ADMIN_USERNAME = ENVIRONMENT.text("ADMIN_USERNAME", "admin")
ADMIN_PASSWORD = ENVIRONMENT.optional("ADMIN_PASSWORD")
BOOTSTRAP_API_KEY = ENVIRONMENT.optional("BOOTSTRAP_API_KEY")
SECURITY_KEY = ENVIRONMENT.optional("SECURITY_KEY")
PUBLIC_ACCESS = ENVIRONMENT.flag("PUBLIC_ACCESS", None)
OPENAI_API_KEY = ENVIRONMENT.optional("OPENAI_API_KEY")
OPENAI_BASE_URL = ENVIRONMENT.url("OPENAI_BASE_URL", "http", "https")
OPENAI_PROJECT_KEY = ENVIRONMENT.optional("OPENAI_PROJECT_KEY")
GPT_OSS_BASE_URL = ENVIRONMENT.url("GPT_OSS_BASE_URL", "http", "https")
GPT_OSS_API_KEY = ENVIRONMENT.optional("GPT_OSS_API_KEY")
# The second names are those of the proxies before this one.
_CHATKIT_URLS = [ENVIRONMENT.url(name, "http", "https") for name in ("CHATKIT_BASE_URL", "BASE_URL")]
_AI_SDK_URLS = [ENVIRONMENT.url(name, "http", "https") for name in ("AI_SDK_URL", "VERCEL_MINIMAL_API_URL")]
CHATKIT_BASE_URL = _CHATKIT_URLS[0] or _CHATKIT_URLS[1]
AI_SDK_URL = _AI_SDK_URLS[0] or _AI_SDK_URLS[1]
VERCEL_SESSION_PREFIX = ENVIRONMENT.text("VERCEL_SESSION_PREFIX", "")
REASONING_EFFORT_DEFAULT = ENVIRONMENT.optional("REASONING_EFFORT_DEFAULT")
DEFAULT_MODEL = ENVIRONMENT.optional("DEFAULT_MODEL")
ACCESS_TOKEN = ENVIRONMENT.optional("ACCESS_TOKEN")
REQUEST_TIMEOUT_SECONDS = ENVIRONMENT.seconds("REQUEST_TIMEOUT_SECONDS", None, low=0.1)

# Django
ROOT_URLCONF = "gateway.urls"
ASGI_APPLICATION = "gateway.asgi.application"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPEND_SLASH = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts",
    "threads",
    "proxy",
    "gateway",
    "unfold.apps.BasicAppConfig",  # its charts
]
# Only for the development server: its app installs Twisted's event loop wherever it is loaded.
if sys.argv[1:2] == ["runserver"] and importlib.util.find_spec("daphne"):
    INSTALLED_APPS.insert(0, "daphne")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "accounts.tenancy.OperatorScopeMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway.layout.places",
            ]
        },
    }
]

# The management API. What each endpoint takes and shows is in the `api` of each app.
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "accounts.api.refusals.respond",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tollgate management API",
    "DESCRIPTION": "Everything that there is to manage. See docs/management-api.md.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",  # from this server, and nobody else's
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "POSTPROCESSING_HOOKS": ["accounts.api.schema.with_errors"],
}

_VALIDATORS = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_VALIDATORS}.UserAttributeSimilarityValidator"},
    {"NAME": f"{_VALIDATORS}.MinimumLengthValidator"},
    {"NAME": f"{_VALIDATORS}.CommonPasswordValidator"},
]

LOG_LEVEL = ENVIRONMENT.one_of("LOG_LEVEL", "info", "debug", "info", "warning", "error")
LOGGING_FILE = BASE_DIR / "gateway" / "logging.json"  # uvicorn reads the same file
LOGGING: dict[str, Any] = json.loads(LOGGING_FILE.read_text())
LOGGING["root"]["level"] = LOG_LEVEL.upper()
