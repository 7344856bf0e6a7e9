"""Read what of the realm decides whether a user may go by partial import."""

from keycloak_bridge.core.import_rules import ImportTerms, read_peculiar
from keycloak_bridge.core.profile import read_profile
from keycloak_bridge.keycloak_admin import KeycloakAdmin
from keycloak_bridge.keycloak_errors import not_keycloak
from keycloak_bridge.keycloak_rejections import Call

_USER_STORAGE = "org.keycloak.storage.UserStorageProvider"
_USER_PROFILE = "org.keycloak.userprofile.UserProfileProvider"
_KNOWN_PROFILE = "declarative-user-profile"


def read_import_terms(admin: KeycloakAdmin) -> ImportTerms:
    """Return the realm's terms; needs the role manage-realm. Raises KeycloakError.

    A realm whose user profile is a provider of somebody else's counts as federated: nothing is known of it.
    """
    realm = admin.realm()
    default_role = realm.get("defaultRole")
    if not isinstance(default_role, dict) or not default_role.get("name"):
        raise not_keycloak(Call("GET", "/"), 200)
    profile = admin.users_profile()
    actions = admin.required_actions()
    wanted, selected = read_peculiar(profile)
    foreign_profile = any(
        one.get("providerId") != _KNOWN_PROFILE for one in admin.components(_USER_PROFILE)
    )
    return ImportTerms(
        profile=read_profile(profile),
        default_role=str(default_role["name"]),
        default_groups=tuple(map(str, realm.get("defaultGroups") or ())),
        default_actions=tuple(
            str(one["alias"]) for one in actions if one.get("enabled") and one.get("defaultAction")
        ),
        known_actions=frozenset(str(one["alias"]) for one in actions),
        email_as_username=bool(realm.get("registrationEmailAsUsername")),
        login_with_email=bool(realm.get("loginWithEmailAllowed", True)),
        duplicate_emails=bool(realm.get("duplicateEmailsAllowed")),
        internationalized=bool(realm.get("internationalizationEnabled")),
        federated=bool(admin.components(_USER_STORAGE)) or foreign_profile,
        wanted=wanted,
        selected=selected,
    )
