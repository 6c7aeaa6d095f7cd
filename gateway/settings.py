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
from gateway.sign_in.roles import check_provider, read_table

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
USAGE_RETENTION_MONTHS = ENVIRONMENT.whole("USAGE_RETENTION_MONTHS", 0, low=0, high=1200)
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
CSRF_FAILURE_VIEW = "gateway.pages.forged"
SESSION_COOKIE_AGE = 7 * 24 * 3600
if BEHIND_TLS:  # a browser takes such a name from this very host alone, and from none of its neighbours
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
# Never the session's table: the message with a new key would be there in the clear until it is read.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS for subdomains, and
    "security.W021",  # preloading it: decisions of whoever owns the domain
    "security.W008",  # a redirect to HTTPS: the proxy's job, and API clients do not follow one
]

# How people sign in
REQUIRE_MFA = ENVIRONMENT.one_of("REQUIRE_MFA", "nobody", "nobody", "operators", "everybody")
OIDC_ISSUER = ENVIRONMENT.url("OIDC_ISSUER", "https", "http") or ""
OIDC_CLIENT_ID = ENVIRONMENT.text("OIDC_CLIENT_ID", "")
OIDC_CLIENT_SECRET = ENVIRONMENT.text("OIDC_CLIENT_SECRET", "")
OIDC_NAME = ENVIRONMENT.text("OIDC_NAME", "single sign-on")
OIDC_SCOPES = ENVIRONMENT.words("OIDC_SCOPES")
OIDC_ROLE_CLAIM = ENVIRONMENT.text("OIDC_ROLE_CLAIM", "groups")
OIDC_ROLES = read_table(ENVIRONMENT.optional("OIDC_ROLES"))
if OIDC_ISSUER:
    check_provider(OIDC_ISSUER, OIDC_CLIENT_ID)

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
CONTENT_LOGGING = frozenset(ENVIRONMENT.words("CONTENT_LOGGING"))
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
    "unfold.apps.BasicAppConfig",  # the admin's theme, whose templates go before Django's; and charts
    "accounts.apps.PanelConfig",  # Django's admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "accounts.apps.AccountsConfig",
    "threads",
    "proxy",
    "gateway",
]
# Only for the development server: its app installs Twisted's event loop wherever it is loaded.
if sys.argv[1:2] == ["runserver"] and importlib.util.find_spec("daphne"):
    INSTALLED_APPS.insert(0, "daphne")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "gateway.security_headers.SecurityHeadersMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "gateway.sign_in.requirement.SecondFactorMiddleware",
    "accounts.site.ActorMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "gateway" / "templates"],  # before those of the apps that it dresses anew
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

# Signing in: gateway/sign_in
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "gateway_cacheentry",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
    # What may be counted in each process by itself: how often somebody asks.
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
ACCOUNT_ADAPTER = "gateway.sign_in.adapters.Accounts"
ACCOUNT_FORMS = {"login": "gateway.sign_in.forms.SignIn"}
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_RATE_LIMITS = {
    "login": "60/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "reauthenticate": "10/m/user",
    "change_password": "5/m/user",
}
MFA_ADAPTER = "gateway.sign_in.adapters.SecondFactors"
MFA_FORMS = {
    "add_webauthn": "gateway.sign_in.forms.AddPasskey",
    "login_webauthn": "gateway.sign_in.forms.LoginByPasskey",
    "authenticate_webauthn": "gateway.sign_in.forms.ThenPasskey",
    "reauthenticate_webauthn": "gateway.sign_in.forms.ConfirmByPasskey",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_TOLERANCE = 1
SOCIALACCOUNT_ADAPTER = "gateway.sign_in.single_sign_on.SingleSignOn"

# The look of the admin. Its menu is in gateway/layout.py.
UNFOLD = {
    "SITE_TITLE": "Tollgate",
    "SITE_HEADER": "Tollgate",
    "SITE_SUBHEADER": "gateway.layout.whereabouts",
    "SITE_SYMBOL": "toll",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}gateway/icon.svg"}],
    "STYLES": [f"{STATIC_URL}gateway/admin.css"],
    "SCRIPTS": [f"{STATIC_URL}gateway/admin.js"],
    "SIDEBAR": {"navigation": "gateway.layout.admin_menu"},
    "COLORS": {
        "primary": {  # around the accents of gateway/tollgate.css, light and dark
            "50": "#eff6ff",
            "100": "#dbeafe",
            "200": "#bfdbfe",
            "300": "#93c5fd",
            "400": "#8ab4ff",
            "500": "#5b93ff",
            "600": "#1d4ed8",
            "700": "#1e40af",
            "800": "#1e3a8a",
            "900": "#172e6e",
            "950": "#0f1d47",
        }
    },
}

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
