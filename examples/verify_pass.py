#!/usr/bin/env python3
"""What a booking service does with a pass: checks it offline. pip install 'PyJWT[crypto]'

    verify_pass.py JWKS_FILE EVENT PASS      JWKS_FILE: a copy of the gateway's /.well-known/jwks.json
"""

import sys

import jwt  # PyJWT

jwks_file, event, token = sys.argv[1:]
with open(jwks_file) as file:
    keys = jwt.PyJWKSet.from_json(file.read())
try:
    key = keys[jwt.get_unverified_header(token).get("kid")]
    claims = jwt.decode(
        token, key, algorithms=["EdDSA", "ES256"], audience=event, issuer="usher",
        options={"require": ["iss", "aud", "sub", "exp", "iat", "jti", "position"]},
    )
except (KeyError, jwt.InvalidTokenError) as error:
    sys.exit(f"keep out: {error}")
# Let each claims["jti"] in once: a unique column next to the booking does it.
print(f"let in: {claims['sub']}, place {claims['position']} until {claims['exp']}")
