"""`api-keys` and `security-keys`: made, shown once, revoked, and made anew with an overlap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts import keys, rights
from accounts.actors import names_of
from accounts.api.fields import Asked, Body, TenantField, UserNameField, Written, user_ids
from accounts.api.resource import Altered, Made, given
from accounts.api.schema import Nothing
from accounts.errors import ApiError
from accounts.models import ApiKey, Credential, Membership, SecurityKey, Tenant, User, check_patterns
from accounts.rights import NO_MEMBER
from accounts.tenancy import operator_scope

LONGEST_OVERLAP_SECONDS = 30 * 24 * 3600

Key = TypeVar("Key", bound=Credential)


class KeyBody(Written[Key]):
    sometimes = ("secret",)
    tenant = TenantField(required=False)
    secret = serializers.SerializerMethodField(help_text="Shown this once, in the answer that made the key.")

    def get_secret(self, key: Key) -> str | None:
        return cast(str | None, self.context.get("secret"))

    def to_representation(self, instance: Key) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if shown["secret"] is None:
            del shown["secret"]
        return shown

    def unchecked(self) -> set[str]:
        return {"user", "digest", "prefix"}


class SecurityKeyBody(KeyBody[SecurityKey]):
    class Meta:
        model = SecurityKey
        fields = ("id", "tenant", "name", "prefix", "secret", "created_at", "revoked_at")
        read_only_fields = ("id", "prefix", "created_at", "revoked_at")
        validators: list[Any] = []


class UserField(UserNameField):
    """A user by e-mail address or user name; as it is shown, the same."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"read_only": False, **options})

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str) or not data:
            raise ValidationError("Give a member's e-mail address.")
        with operator_scope():
            user = User.objects.named([data]).get(data)
        if user is None:
            raise ValidationError(NO_MEMBER)
        return user.pk


class ApiKeyBody(KeyBody[ApiKey]):
    lasting = ("tenant", "name", "user")
    user = UserField(source="user_id", required=False, help_text="A member. Without it yours, or an owner's.")
    models = serializers.ListField(
        child=serializers.CharField(max_length=200),
        source="allowed_models",
        required=False,
        max_length=1000,
        validators=[check_patterns],
        help_text='Patterns such as "gpt-*"; empty: every model.',
    )

    class Meta:
        model = ApiKey
        fields = (
            *("id", "tenant", "user", "name", "prefix", "secret", "models", "expires_at"),
            *("playground", "created_at", "revoked_at"),
        )
        read_only_fields = ("id", "prefix", "playground", "created_at", "revoked_at")
        validators: list[Any] = []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        expires_at = attrs.get("expires_at")
        if "expires_at" in attrs and self.instance is not None and self.instance.playground:
            raise ValidationError({"expires_at": "The playground says how long its key works."})
        if expires_at is not None and expires_at <= timezone.now():
            raise ValidationError({"expires_at": "Give a time that is to come."})
        if self.instance is None:
            attrs.setdefault("tenant", self.context["view"].home())
            if "user_id" not in attrs:
                attrs["user_id"] = self._whose(attrs["tenant"])
            elif not Membership.objects.of(attrs["tenant"]).filter(user_id=attrs["user_id"]).exists():
                raise ValidationError({"user": NO_MEMBER})
        return super().validate(attrs)

    def _whose(self, tenant: Tenant) -> int:
        """Whoever makes it; where an operator is no member, the owner of longest standing."""
        members = Membership.objects.of(tenant)
        user_id: int = self.context["view"].actor.user_id
        if members.filter(user_id=user_id).exists():
            return user_id
        owner = members.filter(role=Membership.Role.OWNER).order_by("id").first()
        if owner is None:
            raise ValidationError({"user": "Say whose it is to be: the tenant has no owner."})
        return int(owner.user_id)


class Rotation(Body):
    """How a key is made anew."""

    overlap_seconds = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=LONGEST_OVERLAP_SECONDS,
        help_text="How long the old one still works.",
    )


class KeysAsked(Asked):
    name = serializers.CharField(required=False)
    prefix = serializers.CharField(required=False)
    revoked = serializers.BooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        revoked = attrs.pop("revoked", None)
        return attrs if revoked is None else {**attrs, "revoked_at__isnull": not revoked}


class Keys(Made):
    """What both kinds of key have in common."""

    def answer(self, key: Credential, secret: str, status: int = 201) -> Response:
        """The key with its secret: the one answer that has it."""
        context = {**self._context([key]), "secret": secret}
        answer = Response(self.get_serializer(key, context=context).data, status=status)
        answer["cache-control"] = "no-store"
        return answer

    def create(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        key, secret = self.make_key(serializer.validated_data)
        self.note("create", key, given(serializer))
        return self.answer(key, secret)

    def make(self, serializer: BaseSerializer[Any]) -> Any:
        raise NotImplementedError  # `create` has the secret to show

    def make_key(self, values: dict[str, Any]) -> tuple[Credential, str]:
        raise NotImplementedError

    @extend_schema(request=Nothing)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, id: str) -> Response:
        """It is refused within a second, everywhere. Revoking it twice does nothing more."""
        key = self.get_object()
        if key.revoked_at is None:
            key.revoke()
            self.note("revoke", key)
        return Response(self.shown(key))


class SecurityKeys(Keys):
    """Secrets that a tenant shares."""

    resource, noun = "security-keys", "security key"
    serializer_class = SecurityKeyBody
    asked = KeysAsked
    orderings = ("id", "created_at", "name")

    def rows(self) -> QuerySet[Any]:
        return SecurityKey.objects.select_related("tenant")

    def make_key(self, values: dict[str, Any]) -> tuple[Credential, str]:
        return keys.make_security_key(values["tenant"], values["name"])


class ApiKeysAsked(KeysAsked):
    user = serializers.CharField(required=False, help_text="Their e-mail address.")
    playground = serializers.BooleanField(required=False, help_text="Whether it is a playground's.")


class ApiKeys(Keys, Altered):
    """Users' keys. A key acts with its user's rights: nobody makes one for somebody who may do more."""

    resource, noun = "api-keys", "API key"
    serializer_class = ApiKeyBody
    asked = ApiKeysAsked
    orderings = ("id", "created_at", "name", "expires_at")

    def rows(self) -> QuerySet[Any]:
        return ApiKey.objects.select_related("tenant")

    def filtered(self, rows: QuerySet[Any], values: dict[str, Any]) -> QuerySet[Any]:
        name = values.pop("user", None)
        if name is not None:
            with operator_scope():
                user = User.objects.named([name]).get(name)
            rows = rows.filter(user_id=user.pk) if user else rows.none()
        return super().filtered(rows, values)

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"names": names_of(user_ids(rows))}

    def make_key(self, values: dict[str, Any]) -> tuple[Credential, str]:
        user = rights.key_owner(self.actor, values["tenant"].id, values["user_id"])
        return keys.make_api_key(
            values["tenant"],
            user,
            values["name"],
            allowed_models=values.get("allowed_models", ()),
            expires_at=values.get("expires_at"),
        )

    @extend_schema(request=Rotation)
    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, id: str) -> Response:
        """A new secret for the key, which stays what it is; the old one works until the overlap ends."""
        key = self.get_object()
        asked = Rotation.of(request)
        if key.revoked_at is not None:
            raise ApiError(409, "The key is revoked. Make another.")
        if key.playground:
            raise ApiError(409, "The playground makes this key anew by itself.")
        rights.key_owner(self.actor, key.tenant_id, key.user_id)
        secret = keys.rotate(key, timedelta(seconds=asked["overlap_seconds"]))
        self.note("rotate", key, ("secret",))
        return self.answer(key, secret, status=200)
