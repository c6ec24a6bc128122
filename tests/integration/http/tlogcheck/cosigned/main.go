// Cosigned checks who has signed the checkpoint on standard input: its log, and witnesses. It knows
// C2SP by others' packages alone.
//
//	cosigned <log's verifier key> <witness's verifier key>… < checkpoint
package main

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
)

// Public is a key that verifies and cannot sign: torchwood makes verifiers of signers alone.
type public ed25519.PublicKey

func (key public) Public() crypto.PublicKey { return ed25519.PublicKey(key) }

func (public) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("there is no private key")
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func witness(vkey string) *torchwood.CosignatureVerifier {
	parts := strings.SplitN(vkey, "+", 3)
	key := must(base64.StdEncoding.DecodeString(parts[2]))
	verifier := must(torchwood.NewCosignatureSigner(parts[0], public(key[1:]))).Verifier()
	if verifier.String() != vkey {
		log.Fatalf("%s is no verifier key of a witness", vkey)
	}
	return verifier
}

func main() {
	log.SetFlags(0)
	verifiers := []note.Verifier{must(note.NewVerifier(os.Args[1]))}
	for _, vkey := range os.Args[2:] {
		verifiers = append(verifiers, witness(vkey))
	}
	signed := must(note.Open(must(io.ReadAll(os.Stdin)), note.VerifierList(verifiers...)))
	checkpoint := must(torchwood.ParseCheckpoint(signed.Text))
	fmt.Printf("%s %d\n", checkpoint.Origin, checkpoint.N)
	for _, signature := range signed.Sigs {
		if signature.Name != checkpoint.Origin {
			fmt.Println(signature.Name, must(torchwood.CosignatureTimestamp(signature)))
		}
	}
}
