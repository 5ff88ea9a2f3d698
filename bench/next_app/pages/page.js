// One page with Incremental Static Regeneration, of about 10 KiB as HTML.
export async function getStaticProps() {
  let seed = 1;
  const next = () => (seed = (seed * 48271) % 2147483647).toString(16).padStart(8, "0");
  const lines = Array.from({ length: 57 }, () => Array.from({ length: 8 }, next).join(" "));
  return { props: { lines }, revalidate: 3600 };
}

export default function Page({ lines }) {
  return (
    <main>
      {lines.map((line, number) => (
        <p key={number}>{line}</p>
      ))}
    </main>
  );
}
