"""alibabacloud-dkms-gcs, the "KMS Instance SDK". What a plain operation wrapped goes with key, IV and algorithm."""
from openapi.models import Config
from openapi_util.models import RuntimeOptions
from sdk import models
from sdk.client import Client

from protocol import from_base64, serve, settings, to_base64

client = Client(Config(protocol="https", endpoint=settings["endpoint"], client_key_file=settings["clientKey"],
                       password=settings["password"], ca_file_path=settings["ca"]))
once = RuntimeOptions(autoretry=False)


def call(name, **members):
    """A plain or an Advance operation."""
    name = name if settings["plain"] else "advance_" + name
    message = getattr(models, name.title().replace("_", "") + "Request")(**members)
    return getattr(client, name + "_with_options")(message, once)


def aad(request):
    return from_base64(request["aad"]) if "aad" in request else None


def wrapped(reply):
    result = {"key": reply.key_id, "ciphertext": to_base64(reply.ciphertext_blob), "iv": to_base64(reply.iv),
              "algorithm": reply.algorithm}
    plaintext = getattr(reply, "plaintext", None)
    return {**result, "plaintext": to_base64(plaintext)} if plaintext else result


def generate(request):
    return wrapped(call("generate_data_key", key_id=request["key"], number_of_bytes=request["length"], aad=aad(request)))


def encrypt(request):
    return wrapped(call("encrypt", key_id=request["key"], plaintext=from_base64(request["plaintext"]), aad=aad(request)))


def decrypt(request):
    more = {}   # an Advance operation finds it in the ciphertext
    if settings["plain"]:
        more = {"key_id": request["key"], "iv": from_base64(request["iv"]), "algorithm": request["algorithm"]}
    reply = call("decrypt", ciphertext_blob=from_base64(request["ciphertext"]), aad=aad(request), **more)
    return {"key": reply.key_id, "plaintext": to_base64(reply.plaintext)}


serve(generate=generate, encrypt=encrypt, decrypt=decrypt)
