/**
 * Asks a Cascade server whether texts are safe: {@link cascade.client.CascadeClient}.
 *
 * <p>The messages are those that are generated from {@code protos/}, in package {@code cascade.v1}.
 */
package cascade.client;
