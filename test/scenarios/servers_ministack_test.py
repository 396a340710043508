#!/usr/bin/python3
"""kmsenv's back end `aws` against MiniStack, which knows the states of keys.

What MiniStack does otherwise than AWS: Wraps are not authenticated, and a wrap of another key is not refused: both
give another data key. kmsenv itself notices that.
"""
from servers_aws import AwsCase, Common
from servers_common import DISABLED, MISMATCH, main, servers


class OnMiniStack(Common, AwsCase):
    server_class = servers.MiniStack
    reencrypts = False       # it has no ReEncrypt

    def test_altered_wrap(self):
        """The server hands out another data key, and kmsenv does not take it."""
        message = self.sealed(self.kms_config())
        blob = self.wrap_of(message).ciphertext
        bad = blob[:-1] + bytes([blob[-1] ^ 1])
        self.refused(self.kms_config(), MISMATCH, message.replace(blob, bad))

    def test_wrap_of_another_key(self):
        message, other = self.sealed(self.kms_config()), self.kms.create_key()["KeyMetadata"]["KeyId"]
        foreign = self.sealed(self.kms_config(key_id=other))
        mixed = message.replace(self.wrap_of(message).ciphertext, self.wrap_of(foreign).ciphertext)
        self.refused(self.kms_config(), MISMATCH, mixed)

    def test_states(self):
        message, config = self.sealed(self.kms_config()), self.kms_config()
        self.kms.disable_key(KeyId=self.key["KeyId"])
        for subject in (None, message):
            self.refused(config, DISABLED, subject, "DisabledException")
        self.kms.enable_key(KeyId=self.key["KeyId"])
        self.opens(config, message)
        self.kms.schedule_key_deletion(KeyId=self.key["KeyId"], PendingWindowInDays=7)
        for subject in (None, message):
            self.refused(config, DISABLED, subject, "KMSInvalidStateException")
        self.kms.cancel_key_deletion(KeyId=self.key["KeyId"])
        self.kms.enable_key(KeyId=self.key["KeyId"])
        self.opens(config, message)


if __name__ == "__main__":
    main("ministack", "moto")     # moto: for AWS's client
