"""hvac, the Python client for Vault that its documentation names. A ciphertext is text, not base64."""
import hvac

from protocol import from_base64, serve, settings, to_base64

client = hvac.Client(url=settings["endpoint"], token=settings["token"], verify=settings["ca"], namespace=settings.get("namespace"))
transit = client.secrets.transit


def generate(request):
    data = transit.generate_data_key(request["key"], "plaintext", context=request.get("context"),
                                     bits=request["length"] * 8)["data"]
    return {"plaintext": data["plaintext"], "ciphertext": to_base64(data["ciphertext"].encode())}


def encrypt(request):
    data = transit.encrypt_data(request["key"], request["plaintext"], context=request.get("context"),
                                associated_data=request.get("associated"))["data"]
    return {"ciphertext": to_base64(data["ciphertext"].encode())}


def decrypt(request):
    data = transit.decrypt_data(request["key"], from_base64(request["ciphertext"]).decode(), context=request.get("context"),
                                associated_data=request.get("associated"))["data"]
    return {"plaintext": data["plaintext"]}


def describe(request):
    data = transit.read_key(request["key"])["data"]
    return {"key": data["name"], "versions": data["latest_version"], "kind": data["type"]}


serve(generate=generate, encrypt=encrypt, decrypt=decrypt, describe=describe)
