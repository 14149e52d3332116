"""Words for views and parts of the body in DICOM tags, as devices write them in several languages.

A tag is often left at its default or filled in by hand. So only a word that surely means another part of the body, or a
lateral view, is a reason to refuse a file; a word that is not known here is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

__all__ = ["check_part", "check_view_position"]


def _words(text: str) -> frozenset[str]:
    """The words of a text in capitals, at anything but letters."""
    return frozenset(word for word in re.split(r"[^A-Z]+", text) if word)


_LATERAL = _words(
    "LL RL LAT LLAT RLAT LATS LATERO LATEROLATERAL PROFIL PROFILE PERFIL ZIJDELINGS SIDE LLO RLO YAN SIVU SIDA"
)
_LATERAL_STARTS = ("LATERAL", "LATERAI", "SEITL", "BOCZN", "BOCN")
_DECUBITUS = _words("LLD RLD LLDEC RLDEC DECUB SEITENLAGE ZIJLIGGING")
_OBLIQUE = frozenset({"RAO", "LAO", "RPO", "LPO", "OBLIQUE", "OBL"})

_PLACEHOLDERS = _words(
    "UNKNOWN UNK OTHER OTHERS NONE NA N A NULL NIL ANY UNDEFINED UNSPECIFIED MISC MISCELLANEOUS DEFAULT TEST GENERAL "
    "EMPTY BLANK UNBEKANNT SONSTIGE SONSTIGES ANDERE INCONNU AUTRE AUTRES SCONOSCIUTO ALTRO DESCONOCIDO OTRO OTROS "
    "DESCONHECIDO OUTRO OUTROS ONBEKEND ANDERS NIEZNANE INNE NO NOT APPLICABLE SPECIFIED NON SPECIFIE KEINE ANGABE "
    "PART X XX XXX"
)

# Words of up to four letters count as whole words, also with an S behind them, longer ones also as parts of a word.
_CHEST = _words(
    "CHEST CHST CXR THX THORAX THORAC TORAX TORAC TORAK LUNG PULMO POUMON POLMON PLUCA PLUCO LONGEN KEUHKO AKCIGER RIB "
    "RIBS STERNUM TRUNK WHOLE BODY PORT PORTABLE HEART CARDIAC BRUST BRYST BROST BORST POITRINE PECHO PEITO PETTO "
    "KLATKA HRUDN MELLKAS GOGUS RINTA GRUDN PIEPT RIPPEN RIBCAGE LUNGE LUNGOR HJERTE HJARTA PLICE PLAMANI THORAK "
    "COSTIL COSTEL COTES PCXR STERNAL"
)
_OTHER_PARTS = _words(
    "SKULL HEAD BRAIN NECK SPINE SACRUM COCCYX PELVIS HIP HIPS ABDOMEN ABD BELLY KUB LEG LEGS KNEE FOOT FEET ANKLE TOE "
    "TOES HEEL CALF THIGH FEMUR TIBIA FIBULA PATELLA CALCANEUS HAND WRIST FINGER THUMB ARM ARMS FOREARM ELBOW HUMERUS "
    "RADIUS ULNA SHOULDER CLAVICLE SCAPULA EXTREMITY JAW MANDIBLE MAXILLA TEETH TOOTH DENTAL ORBIT SINUS NOSE FACE "
    "FACIAL EYE EAR BREAST MAMMA LIVER KIDNEY UTERUS BLADDER JOINT CAROTID "
    "LUMBAR CERVIC SACROILIAC BWS LWS HWS GELENK ZAHNE ZAEHNE "
    "BECKEN HUEFTE HUFTE KNIE FUSS SCHAEDEL SCHADEL WIRBEL SCHULTER BAUCH ELLENBOGEN HANDGELENK SPRUNGGELENK KIEFER "
    "MAIN GENOU PIED EPAULE HANCHE BASSIN CRANE RACHIS COUDE POIGNET CHEVILLE VERTEB "
    "MANO RODILLA PIE HOMBRO CADERA CRANEO COLUMNA CODO MUNECA TOBILLO "
    "GINOCCHIO PIEDE SPALLA ANCA BACINO CRANIO COLONNA GOMITO POLSO CAVIGLIA ADDOME "
    "MAO JOELHO OMBRO QUADRIL BACIA COTOVELO COLUNA VOET SCHOUDER HEUP BEKKEN SCHEDEL KREGOSLUP KOLANO STOPA CZASZKA"
)
_SPINE = _words("LUMBAR CERVIC BWS LWS HWS SPINE WIRBEL RACHIS VERTEB COLUMNA COLONNA COLUNA KREGOSLUP")


def check_view_position(tags: Mapping[str, str]) -> tuple[str, str]:
    """Whether the tags name a lateral view.

    Args:
        tags: of a radiograph; 'view_position' and 'view' are looked at.

    Returns:
        The reason for refusing it, and the warning; '' where there is none.
    """
    words = _words(f"{tags.get('view_position', '')} {tags.get('view', '')}")
    if decubitus := sorted(word for word in words if _any(_DECUBITUS, {word})):
        said = ", ".join(decubitus)
        return "", f"the DICOM tags say that the patient lies on one side ({said}): fluid and air have moved"
    if lateral := sorted(word for word in words if word in _LATERAL or word.startswith(_LATERAL_STARTS)):
        return f"the DICOM tags say that it is a lateral view ({lateral[0]})", ""
    if oblique := sorted(words & _OBLIQUE):
        return "", f"the DICOM tags say that it is an oblique view ({oblique[0]})"
    return "", ""


def check_part(tags: Mapping[str, str]) -> tuple[str, str]:
    """Whether the tags name another part of the body than the chest.

    Args:
        tags: of a radiograph; 'body_part' counts before 'anatomic_region'.

    Returns:
        As `check_view_position`.
    """
    for part in (tags.get("body_part", ""), tags.get("anatomic_region", "")):
        words = _words(part)
        if not words or words <= _PLACEHOLDERS or "NOT SPECIFIED" in part:
            continue
        chest, other = _any(_CHEST, words), _any(_OTHER_PARTS, words)
        if other and (not chest or _any(_SPINE, words)):
            return f"the DICOM tags say that it shows another part of the body ({part})", ""
        if other:
            return "", f"the DICOM tags say that it shows more than the chest ({part})"
        return ("", "") if chest else ("", f"the DICOM tags name an unknown part of the body ({part})")
    return "", ""


def _any(known: frozenset[str], words: Set[str]) -> bool:
    return any(one in (word, f"{word}S") or (len(word) > 4 and word in one) for word in known for one in words)
